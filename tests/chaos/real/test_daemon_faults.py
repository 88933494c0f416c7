"""Faults of the daemon and of what it stands on, done to a real server; each ends with the epilogue."""

import http.client
import json
import multiprocessing
import os
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

import lmx
from lmx import descriptors
from lmx.actors.base import Actor
from lmx.actors.messages import supervisor
from tests.chaos.real.stage import Stage, config
from tests.support import guide, poor
from tests.support.inbox import Inbox
from tests.support.server import Server

Start = Callable[..., Stage]
PAPER = """
[models.paper]
path = "{path}"
backend = "{backend}"
context = 512
slots = 2
{more}
"""


@contextmanager
def staged(folder: Path, models: str = "", **options: Any) -> Iterator[Stage]:
    """A stage on a server that is started in another way, or has one more model; it must exit with 0."""
    server = Server(folder, config() + models, **options)
    try:
        if models:
            server.listen().loaded("paper")
        yield Stage(server)
        assert server.stop(60.0) == 0, server.log[-10:]
    finally:
        server.process.kill()
        server.end()


def first_token(server: Server) -> float:
    """Seconds from a request to its first byte, on a connection that is there already."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=20)
    body = json.dumps({"model": "bystander", "prompt": "x", "max_tokens": 1})
    taken = []
    for _ in range(40):
        began = time.monotonic()
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        with connection.getresponse() as answer:
            assert answer.status == 200
            taken.append(time.monotonic() - began)
            answer.read()
    connection.close()
    return statistics.median(taken)


@pytest.mark.slow
def test_idle_connections_are_only_that(stage: Start) -> None:
    """F23: 1,200 of them, 1,024 stay; who comes then is refused with 503 at once; who is inside notices nothing."""
    descriptors.raise_limit()
    acted = stage()
    host, port = acted.server.url.removeprefix("http://").split(":")
    inside = http.client.HTTPConnection(host, int(port), timeout=20)
    inside.connect()
    alone = first_token(acted.server)
    with ExitStack() as idle:
        for _ in range(1000):
            idle.enter_context(socket.create_connection((host, int(port))))
        beside = first_token(acted.server)
        for _ in range(200):
            idle.enter_context(socket.create_connection((host, int(port))))
        began = time.monotonic()
        status, body = acted.server.get("/healthz")
        assert time.monotonic() - began < 2
        assert (status, body["error"]["code"]) == (503, "too_many_connections")
        inside.request("GET", "/healthz")
        assert inside.getresponse().status == 200
    inside.close()
    assert beside < 1.5 * alone + 0.02, (alone, beside)
    acted.epilogue(first_causes=0)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which(poor.PROGRAM[0]), reason="root is not bound by the limit")
def test_no_process_or_thread_can_be_started(request: pytest.FixtureRequest) -> None:
    """F25: a dead worker's model says why and tries again, the other one serves; afterwards all is well."""
    folder = Path(tempfile.mkdtemp())  # one that nobody may enter, unlike pytest's
    request.addfinalizer(lambda: shutil.rmtree(folder))
    folder.chmod(0o755)
    with staged(folder, program=poor.PROGRAM) as acted:
        server = acted.server
        os.kill(server.pid, signal.SIGUSR2)
        acted.worker().kill()
        server.until(lambda: server.machine("model:victim")["facts"].get("retry_at"), bool)
        time.sleep(3); print(server.machine("model:victim"), [l for l in server.log if "request" not in l], open(f"/proc/{server.pid}/limits").read())
        assert acted.asks("bystander")[0] == 200
        assert server.get("/readyz")[0] == 200
        os.kill(server.pid, signal.SIGUSR1)
        acted.epilogue()


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="the limit of another process is Linux's")
def test_a_disk_that_fills_up_and_is_emptied(stage: Start) -> None:
    """F26, F27: answers go on, readiness and log say it, the last good state stays; then all of it is written."""
    acted = stage()
    server = acted.server
    file = server.folder / "state" / "runtime-state.json"
    server.until(lambda: json.loads(file.read_text())["state"]["loaded"], lambda names: len(names) == 2)
    good = file.read_bytes()
    most = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (0, most[1]))
    assert server.post("/admin/models/victim/unload", {})[0] == 200
    server.until(lambda: server.machine("state")["state"], lambda state: state == "failing")
    status, body = server.get("/readyz")
    assert (status, bool(body["degraded"])) == (200, True)
    assert acted.asks("bystander")[0] == 200
    assert file.read_bytes() == good
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, most)
    server.until(lambda: json.loads(file.read_text())["state"]["loaded"], lambda names: names == ["bystander"], 60)
    assert server.post("/admin/models/victim/load", {})[0] == 200
    server.until(lambda: server.get("/readyz")[1].get("degraded"), lambda degraded: not degraded, 60)
    acted.epilogue(first_causes=0)
    assert sum('"event": "state_error"' in line for line in server.log) == 1


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_there(tmp_path: Path, host: str) -> None:
    """F32: one sentence with the address, exit code 69, no worker."""
    server = Server(tmp_path, config(), ("--host", host))
    assert server.end(30) == 69, server.log
    assert host in server.log[-1]
    assert "Traceback" not in "".join(server.log)
    assert not any("loading" in line for line in server.log)


def paper(acted: Stage) -> tuple[int, Any]:
    return acted.asks("paper", "What is lmx?", max_tokens=4)


@pytest.mark.slow
def test_a_model_file_that_is_replaced_or_cut_off(tmp_path: Path) -> None:
    """F44, F42: what is loaded serves on; the next load sees the new file: cut off it is refused with path and size."""
    file = tmp_path / "paper.gguf"
    shutil.copy(guide.GGUF, file)
    whole = file.read_bytes()
    with staged(tmp_path, PAPER.format(path=file, backend="llama_cpp", more="")) as acted:
        server = acted.server
        before = paper(acted)[1]["choices"]
        half = tmp_path / "half"
        half.write_bytes(whole[: len(whole) // 2])
        half.replace(file)
        assert paper(acted)[1]["choices"] == before
        assert server.post("/admin/models/paper/unload", {})[0] == 200
        status, body = server.post("/admin/models/paper/load", {})
        assert status == 503
        assert f"{file} ({len(whole) // 2} bytes)" in body["error"]["message"]
        assert acted.asks("bystander")[0] == 200
        half.write_bytes(whole)
        half.replace(file)
        assert server.post("/admin/models/paper/load", {})[0] == 200
        assert paper(acted)[1]["choices"] == before
        acted.epilogue(first_causes=0)


@pytest.mark.slow
def test_a_model_file_that_is_cut_off_while_it_is_mapped(tmp_path: Path) -> None:
    """F43: its worker dies of SIGBUS, no other one does; the next one finds the file cut off, and that is told."""
    file = tmp_path / "paper.gguf"
    shutil.copy(guide.GGUF, file)
    with staged(tmp_path, PAPER.format(path=file, backend="llama_cpp", more="")) as acted:
        server = acted.server
        os.truncate(file, 4096)
        status, body = paper(acted)
        assert (status, body["error"]["code"]) == (500, "worker_died")
        server.until(lambda: server.machine("model:paper")["state"], lambda state: state == "failed")
        assert f"{file} (4096 bytes)" in server.machine("model:paper")["reason"]
        [cause] = server.until(acted.first_causes, bool)
        assert (cause["model"], cause["cause"]) == ("paper", "signal")
        assert "SIGBUS" in cause["detail"]
        acted.before = replace(acted.before, children=acted.before.children - 1)
        acted.epilogue()


@pytest.mark.slow
def test_a_template_that_never_ends(tmp_path: Path) -> None:
    """F46: 400 within seconds, and the next request is served; nobody else waits."""
    folder = tmp_path / "paper"
    shutil.copytree(guide.MLX, folder)
    template = folder / "chat_template.jinja"
    loop = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    template.write_text("{% if 'loop' in messages[-1].content %}" + loop + "{% endif %}" + template.read_text())
    with staged(tmp_path, PAPER.format(path=folder, backend="mlx", more="")) as acted:
        answers: list[tuple[float, int, Any]] = []

        def ask() -> None:
            began = time.monotonic()
            status, body = acted.asks("paper", "loop")
            answers.append((time.monotonic() - began, status, body))

        client = threading.Thread(target=ask)
        client.start()
        assert first_token(acted.server) < 0.5
        client.join()
        [(took, status, body)] = answers
        assert (status, body["error"]["param"]) == (400, "messages")
        assert "template" in body["error"]["message"]
        assert took < 20
        assert paper(acted)[0] == 200
        acted.epilogue(first_causes=0)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("nice"), reason="no nice")
def test_a_hungry_machine_kills_nobody(tmp_path: Path) -> None:
    """F49: everything of lmx is nice, and four others take all they get for ten seconds; slow is not dead."""
    with staged(tmp_path, program=("nice", "-n", "19", sys.executable, "-m", "lmx")) as acted:
        workers = acted.worker("victim").pid, acted.worker("bystander").pid
        hogs = [multiprocessing.get_context("spawn").Process(target=hog, args=(10.0,)) for _ in range(4)]
        for one in hogs:
            one.start()
        while any(one.is_alive() for one in hogs):
            assert acted.asks("victim", "hungry")[1]["choices"][0]["message"]["content"] == "hungry"
        for one in hogs:
            one.join()
        assert (acted.worker("victim").pid, acted.worker("bystander").pid) == workers
        acted.epilogue(first_causes=0)


def hog(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def test_metrics_do_not_grow_with_what_clients_write(stage: Start) -> None:
    """F54: after 300 names that nobody knows, and 200 scrapes, there are as many series as before, and as quickly."""
    acted = stage()
    server = acted.server

    def series() -> set[str]:
        lines = server.get("/metrics")[1].splitlines()
        return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}

    def odd(number: int) -> None:
        assert server.post("/v1/completions", {"model": f"no-{number}", "prompt": "x"})[0] == 404
        assert server.get(f"/no/{number}?x={number}")[0] == 404
        assert server.post(f"/admin/models/no-{number}/load", {})[0] == 404

    odd(0)
    series()
    before = series()
    for number in range(1, 100):
        odd(number)
    taken = []
    for _ in range(200):
        began = time.monotonic()
        assert series() == before
        taken.append(time.monotonic() - began)
    assert not any("no-" in one for one in before)
    assert statistics.median(taken[100:]) < 2 * statistics.median(taken[:100]) + 0.005
    acted.epilogue(first_causes=0)


@pytest.mark.slow
def test_the_program_is_removed_under_the_daemon(tmp_path: Path) -> None:
    """F60: what runs lives; a worker cannot be started again, nor the daemon, and both say why; put back, it mends."""
    program = tmp_path / "lib"
    shutil.copytree(Path(lmx.__file__).parent, program / "lmx", ignore=shutil.ignore_patterns("__pycache__"))
    variables = {"PYTHONPATH": str(program)}
    with staged(tmp_path, variables=variables) as acted:
        server = acted.server
        (program / "lmx" / "engine").rename(program / "engine")
        acted.worker().kill()
        server.until(lambda: server.machine("model:victim")["facts"].get("retry_at"), bool)
        assert acted.asks("bystander")[0] == 200
        assert server.get("/readyz")[0] == 200
        second = subprocess.run(
            [sys.executable, "-m", "lmx", "serve", "--port", "0"],
            cwd=tmp_path,
            env=os.environ | variables,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert second.returncode == 70
        assert "lmx.engine" in second.stderr
        (program / "engine").rename(program / "lmx" / "engine")
        acted.epilogue()


class Fragile(Actor[type[BaseException]]):
    def receive(self, message: type[BaseException]) -> None:
        raise message("from inside")


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, MemoryError, RecursionError, GeneratorExit])
def test_nothing_that_is_raised_in_an_actor_ends_it(error: type[BaseException]) -> None:
    """F18, F19: pykka would stop every actor for a SystemExit; here one starts over, and its supervisor hears of it."""
    told: Inbox[supervisor.Message] = Inbox()
    actor = Fragile.start("fragile", told)
    actor.tell(error)
    actor.tell(error)
    crashed = supervisor.Crashed("fragile", f"{error.__name__}: from inside")
    assert told.wait(lambda messages: len(messages) == 2) == [crashed] * 2
    assert actor.is_alive()
    actor.stop(timeout=5)
