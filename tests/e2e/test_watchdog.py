"""Processes that really hang, or only look like it: T-K8S-1, T-K8S-3, F17, F48."""

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support import hanging
from tests.support.server import Server

Serve = Callable[..., Server]

ECHO = """
guide = false
[watchdog]
seconds = 5
[models.echo]
backend = "fake"
script = "{script}"
"""
HANGS = (sys.executable, hanging.__file__)


def last_words(server: Server) -> dict[str, Any]:
    told = [json.loads(line) for line in server.log if '"event": "stuck"' in line]
    assert len(told) == 1, server.log[-5:]
    found: dict[str, Any] = told[0]
    return found


@pytest.mark.parametrize(("part", "silent"), [("loop", "loop"), ("actor", "journal")])
def test_what_hangs_is_ended_with_70(tmp_path: Path, part: str, silent: str) -> None:
    """F17, T-K8S-3: the loop, or one actor while the loop turns; in time, its stacks in one line, no worker left."""
    server = Server(tmp_path, ECHO.format(script=""), program=(*HANGS, part)).ready()
    worker = psutil.Process(server.worker("echo"))
    started = time.monotonic()
    server.process.send_signal(signal.SIGUSR2)
    assert server.end(15) == 70
    assert 5 <= time.monotonic() - started < 12
    worker.wait(5)
    words = last_words(server)
    assert silent in words["silent_seconds"]
    assert any("hang_for_ever" in frame for frames in words["stacks"].values() for frame in frames)


def test_a_sleep_is_not_a_hang(serve: Serve) -> None:
    """F48: the whole process stands still for longer than the limit; awake again, it goes on as it was."""
    server = serve(ECHO.format(script="")).ready()
    worker = server.worker("echo")
    os.kill(server.pid, signal.SIGSTOP)
    time.sleep(8)
    os.kill(server.pid, signal.SIGCONT)
    assert server.get("/healthz")[0] == 200
    time.sleep(7)
    assert server.get("/readyz")[0] == 200
    assert server.worker("echo") == worker
    assert server.process.poll() is None


def test_a_long_load_is_no_reason_for_anything(serve: Serve) -> None:
    """T-K8S-1: for as long as it loads the server lives and has started, is not ready, and is never restarted."""
    server = serve(ECHO.format(script="load=120")).listen()
    server.until(lambda: server.machine("model:echo")["state"], lambda state: state == "loading")
    pid, until = server.pid, time.monotonic() + 7
    while time.monotonic() < until:
        assert server.get("/livez")[0] == 200
        assert server.get("/startupz")[0] == 200
        status, body = server.get("/readyz")
        assert (status, body["models"]) == (503, {"echo": "loading"})
        time.sleep(0.5)
    assert server.process.poll() is None
    assert server.pid == pid


def test_systemd_is_told_everything(tmp_path: Path) -> None:
    """READY once it listens, WATCHDOG twice in each period, STOPPING on SIGTERM."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(30)
        manager.bind(str(tmp_path / "notify"))
        variables = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "4000000"}
        server = Server(tmp_path, ECHO.format(script=""), variables=variables).listen()
        heard: list[str] = []
        while heard.count("WATCHDOG=1") < 3:
            heard.append(manager.recv(1000).decode())
        assert [word.splitlines()[0] for word in heard if not word.startswith("WATCHDOG")] == ["READY=1"]
        assert server.stop() == 0
        while not heard[-1].startswith("STOPPING=1"):
            heard.append(manager.recv(1000).decode())


def test_systemd_hears_nothing_of_a_process_that_hangs(tmp_path: Path) -> None:
    """T-K8S-3: WATCHDOG=1 stops with the loop, before the process ends by itself."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(30)
        manager.bind(str(tmp_path / "notify"))
        variables = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
        server = Server(tmp_path, ECHO.format(script=""), program=(*HANGS, "loop"), variables=variables).listen()
        while manager.recv(1000) != b"WATCHDOG=1":
            pass
        server.process.send_signal(signal.SIGUSR2)
        assert server.end(15) == 70
        manager.setblocking(False)
        late = []
        with suppress(BlockingIOError):
            while True:
                late.append(manager.recv(1000))
    assert set(late) <= {b"WATCHDOG=1"}
    assert len(late) <= 4  # of the five or more seconds that it hung


def test_the_deep_check_tells_all(serve: Serve) -> None:
    """200, every part with its numbers, from a real machine: the loop's and each actor's answer too."""
    server = serve(ECHO.format(script="")).ready()
    server.until(lambda: len(server.get("/admin/health")[1]["checks"]["lag"]["facts"]["seconds"]), lambda n: n >= 6)
    status, body = server.get("/admin/health")
    assert status in (200, 503), body  # the machine may be short of memory or disk
    checks = body["checks"]
    assert checks["worker"]["status"] == "ok"
    assert checks["worker"]["facts"]["echo"]["pid"] == server.worker("echo")
    assert {"loop", "timers", "journal", "admission", "server", "model:echo"} <= set(checks["lag"]["facts"]["seconds"])
    assert checks["files"]["facts"]["open"] > 5
    assert checks["disk"]["facts"]["free_bytes"] > 0
