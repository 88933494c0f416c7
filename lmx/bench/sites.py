"""Servers that the bench starts and asks: lmx, the peers that pip can install, and any address that is given."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from lmx.bench.wire import BenchError

START_SECONDS = 180.0
POLL = 0.05
PINNED = "llama-cpp-python"


@dataclass(frozen=True)
class Site:
    """Where requests can be sent. `extra` are fields that every request to it gets."""

    name: str
    url: str
    model: str
    key: str = ""
    process: psutil.Process | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def lmx(config: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]], folder: Path) -> Iterator[Site]:
    """A server with these settings (dotted names) and models; `folder` keeps its state, also for a later one."""
    lines = ["guide = false", f"state_dir = {json.dumps(str(folder))}"]
    lines += [f"{name} = {json.dumps(value)}" for name, value in config.items()]
    for name, values in models.items():
        lines += [f"[models.{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    file = folder / "lmx.toml"
    file.write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "lmx", "serve", "--config", str(file), "--port", "0", "--log-format", "json"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LMX_")}
    with _running("lmx", command, environment) as server:
        url = server.until(server.listening)
        server.until(lambda: _answers(f"{url}/readyz"))
        yield Site("lmx", url, next(iter(models)), process=server.process, extra={"ignore_eos": True})


@contextmanager
def llama_cpp_server(file: Path, context: int, threads: int, python: Path) -> Iterator[Site]:
    """llama-cpp-python's own server. It has one sequence; new requests wait instead of cutting off the running one."""
    settings = {
        "model": file, "n_ctx": context, "n_threads": threads, "n_threads_batch": threads, "n_batch": 512,
        "logits_all": False, "interrupt_requests": False, "verbose": False,
    }  # fmt: skip
    flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    with _peer("llama_cpp.server", [str(python), "-m", "llama_cpp.server", *flags], str(file)) as site:
        yield site


@contextmanager
def mlx_lm_server(folder: Path) -> Iterator[Site]:
    command = [sys.executable, "-m", "mlx_lm", "server", "--model", str(folder), "--log-level", "ERROR"]
    with _peer("mlx_lm.server", command, str(folder)) as site:
        yield site


def given(name: str, url: str) -> Site:
    """A server that runs already; it is asked which model it has, and gets the key OPENAI_API_KEY."""
    key = os.environ.get("OPENAI_API_KEY", "")
    request = urllib.request.Request(f"{url}/v1/models", headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            model = str(json.load(answer)["data"][0]["id"])
    except (OSError, ValueError, LookupError) as error:
        raise BenchError(f"{url}/v1/models tells no model ({error}).") from None
    return Site(name, url, model, key)


def peer_python(cache: Path, wheels: Path) -> Path:
    """The interpreter of a venv of its own that has llama-cpp-python with its server, from the wheel built for lmx."""
    folder = cache / "peers"
    python = folder / "bin" / "python"
    if _silently([str(python), "-c", "import llama_cpp.server.app"]):
        return python
    version = next(iter(sorted(wheels.glob("llama_cpp_python-*.whl"))), Path("none-0-")).name.split("-")[1]
    install = [str(python), "-m", "pip", "install", "--quiet", "--find-links", str(wheels), "--prefer-binary"]
    steps = (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [*install, f"{PINNED}[server]=={version}"],
    )
    if not wheels.exists() or not all(map(_silently, steps)):
        raise BenchError(f"llama_cpp.server could not be installed in {folder}")
    return python


def physical_cores() -> int:
    return psutil.cpu_count(logical=False) or psutil.cpu_count() or 1


def installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


class _Server:
    """A process under way, and what it writes."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], log: Path) -> None:
        self._popen = popen
        self._log = log
        self._name = name
        self.process = psutil.Process(popen.pid)

    def until(self, read: Callable[[], Any]) -> Any:
        """Ask until something comes of it. Raises BenchError when the process ends or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while not (found := read()):
            if self._popen.poll() is not None or time.monotonic() > deadline:
                words = self._log.read_text(errors="replace").strip().splitlines()
                raise BenchError(f"{self._name} did not start: {words[-1] if words else 'it says nothing'}")
            time.sleep(POLL)
        return found

    def listening(self) -> str:
        """The address in lmx's log."""
        for line in self._log.read_text(errors="replace").splitlines():
            if '"event": "listening"' in line:
                return str(json.loads(line)["url"])
        return ""

    def stop(self) -> None:
        """SIGTERM, and no mercy for what does not heed it."""
        family = [self.process, *self.process.children(recursive=True)] if self._popen.poll() is None else []
        self._popen.terminate()
        try:
            self._popen.wait(30)
        finally:
            for process in psutil.wait_procs(family, timeout=2)[1]:
                process.kill()
            self._popen.wait()


@contextmanager
def _running(name: str, command: Sequence[str], environment: Mapping[str, str]) -> Iterator[_Server]:
    with tempfile.TemporaryDirectory(prefix="lmx-bench-log-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )
        server = _Server(name, popen, log)
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def _peer(name: str, command: Sequence[str], model: str) -> Iterator[Site]:
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with _running(name, [*command, "--host", "127.0.0.1", "--port", str(port)], environment) as server:
        server.until(lambda: _answers(f"{url}/v1/models"))
        yield Site(name, url, model, process=server.process)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _silently(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
