"""A real `lmx serve` in its own process, as a user starts it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil

from tests.support.witness import hook

PROGRAM = (sys.executable, "-m", "tests.support.witness")
"""lmx, whose answers are looked at; what is wrong with one fails the test, at the latest when the server ends."""


def remembered(folder: Path) -> dict[str, Any]:
    """What a server in `folder` has on disk; between the two renames of a write that is the previous generation."""
    file = folder / "state" / "runtime-state.json"
    try:
        content = file.read_text()
    except FileNotFoundError:
        content = file.with_name(f"{file.name}.1").read_text()
    state: dict[str, Any] = json.loads(content)["state"]
    return state


class Server:
    """Starts on a free port of 127.0.0.1; `log` holds its stderr lines.

    `shell` are commands of sh that go before it: `umask 0`, `ulimit -n 64`. `program` may do more than lmx, `variables`
    are added to the environment.
    """

    def __init__(
        self,
        folder: Path,
        config: str = "",
        arguments: tuple[str, ...] = (),
        shell: str = "",
        program: tuple[str, ...] = PROGRAM,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.folder = folder
        file = folder / "lmx.toml"
        file.write_text(f'state_dir = "{folder}/state"\n{config}')
        command = [*program, "serve", "--config", str(file), "--port", "0", *arguments]
        if shell:
            command = ["sh", "-c", f'{shell}; exec "$@"', "sh", *command]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LMX_")}
        environment.update({hook.VARIABLE: str(folder / "witness.jsonl"), **variables})
        hook.FILES.add(folder / "witness.jsonl")
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        weakref.finalize(self, self.process.kill)  # at the latest with the tests, also where one of them failed
        self.log: list[str] = []
        self.url = ""
        self._ended = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def listen(self, seconds: float = 60.0) -> "Server":
        """Wait until it accepts connections."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self.url) or self._ended, seconds)
            assert self.url, f"it does not listen: {self.log}"
        return self

    def ready(self, seconds: float = 60.0) -> "Server":
        """Wait until /readyz says so."""
        self.listen(seconds)
        self.until(lambda: self.get("/readyz")[0], lambda status: status == 200, seconds)
        return self

    def get(self, path: str) -> tuple[int, Any]:
        return self._ask(urllib.request.Request(self.url + path))

    def post(self, path: str, body: object) -> tuple[int, Any]:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        return self._ask(request)

    def events(self, path: str, body: object) -> Iterator[str]:
        """The data of each server-sent event of a streamed answer, as it comes."""
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            for line in answer:
                if line.startswith(b"data: "):
                    yield line[6:].decode().rstrip("\n")

    def machine(self, actor: str) -> dict[str, Any]:
        """Of this actor, as soon as its start has put it on the board."""

        def own() -> list[dict[str, Any]]:
            return [one for one in self.get("/admin/machines")[1]["machines"] if one["actor"] == actor]

        return dict(self.until(own, bool)[0])

    def loaded(self, model: str) -> None:
        """Wait until this model is ready; /readyz is content with any."""
        self.until(lambda: self.machine(f"model:{model}")["state"], lambda state: state == "ready", 60.0)

    def worker(self, model: str) -> int:
        return int(self.machine(f"model:{model}")["facts"]["pid"])

    def until(self, read: Callable[[], Any], good: Callable[[Any], bool], seconds: float = 20.0) -> Any:
        """Read again and again until it is good; fail after `seconds`."""
        deadline = time.monotonic() + seconds
        while not good(value := read()):
            assert time.monotonic() < deadline, (value, self.log[-20:])
            assert self.process.poll() is None, (value, self.log[-20:])
            time.sleep(0.02)
        return value

    def stop(self, seconds: float = 30.0) -> int:
        """SIGTERM; the exit code. Whatever it left behind is killed and reported."""
        children = psutil.Process(self.pid).children(recursive=True) if self.process.poll() is None else []
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(seconds)
        finally:
            self.process.kill()
            left = psutil.wait_procs(children, timeout=5)[1]
            for orphan in left:
                orphan.kill()
        assert not left, f"orphans: {left}"
        self._reader.join(5)
        hook.check()
        return code

    def end(self, seconds: float = 30.0) -> int:
        """Wait until it ends by itself; the exit code, when all of its log is there."""
        code = self.process.wait(seconds)
        self._reader.join(5)
        hook.check()
        return code

    def _ask(self, request: urllib.request.Request) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, _parsed(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _parsed(error.read())

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                with self._changed:
                    self.log.append(line)
                    if '"event": "listening"' in line:
                        self.url = json.loads(line)["url"]
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode()
