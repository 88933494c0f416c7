"""Faults of the daemon and of what it stands on, done to a real server; each ends with the epilogue."""

import http.client
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
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

import lmx
from lmx import descriptors
from lmx.actors.base import Actor
from lmx.actors.messages import supervisor
from tests.chaos.real.stage import Stage, config
from tests.chaos.real.staged import first_token, staged
from tests.support import poor
from tests.support.inbox import Inbox
from tests.support.server import PROGRAM, Server, remembered

Start = Callable[..., Stage]


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
    """F25: a dead worker's model tells its clients why and tries again, however long that takes; the other one serves;
    afterwards all is well."""
    folder = Path(tempfile.mkdtemp())  # one that nobody may enter, unlike pytest's
    request.addfinalizer(lambda: shutil.rmtree(folder))
    folder.chmod(0o755)
    with staged(folder, program=poor.PROGRAM) as acted:
        server = acted.server
        os.kill(server.pid, signal.SIGUSR2)
        acted.worker().kill()
        server.until(lambda: server.machine("model:victim")["facts"].get("retry_at"), bool)
        server.until(lambda: "could not be started" in server.machine("model:victim")["reason"], bool)
        began = time.monotonic()
        status, body = acted.asks("victim")
        assert (status, body["error"]["code"]) == (503, "model_unloaded")
        assert "The worker process could not be started: [Errno 11]" in body["error"]["message"]
        assert time.monotonic() - began < 12
        assert server.machine("model:victim")["state"] == "backoff"
        assert acted.asks("bystander")[0] == 200
        assert server.get("/readyz")[0] == 200
        os.kill(server.pid, signal.SIGUSR2)
        acted.epilogue()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="the limit of another process is Linux's")
def test_a_disk_that_fills_up_and_is_emptied(stage: Start) -> None:
    """F26, F27: answers go on, readiness and log say it, the last good state stays; then all of it is written."""
    acted = stage()
    server = acted.server
    file = server.folder / "state" / "runtime-state.json"
    server.until(lambda: remembered(server.folder)["loaded"], lambda names: len(names) == 2)
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
    server.until(lambda: remembered(server.folder)["loaded"], lambda names: names == ["bystander"], 60)
    assert server.post("/admin/models/victim/load", {})[0] == 200
    server.until(lambda: server.get("/readyz")[1].get("degraded"), lambda degraded: not degraded, 60)
    acted.epilogue(first_causes=0)
    assert sum('"event": "state_error"' in line for line in server.log) == 1


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_there(tmp_path: Path, host: str) -> None:
    """F32: one sentence with the address, exit code 69, no worker."""
    server = Server(tmp_path, config(), ("--host", host), variables={"LMX_KEYS_INFERENCE": "a-key-of-a-client"})
    assert server.end(30) == 69, server.log
    assert host in server.log[-1]
    assert "Traceback" not in "".join(server.log)
    assert not any("loading" in line for line in server.log)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("nice"), reason="no nice")
def test_a_hungry_machine_kills_nobody(tmp_path: Path) -> None:
    """F49: everything of lmx is nice, and four others take all they get for ten seconds; slow is not dead."""
    with staged(tmp_path, program=("nice", "-n", "19", *PROGRAM)) as acted:
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


@pytest.mark.slow
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
            check=False,
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
