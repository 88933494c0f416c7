"""The daemon's own life: start, readiness, and what it leaves behind. How it stops: test_drain."""

import os
import signal
from collections.abc import Callable

import psutil

from tests.support.server import Server

Serve = Callable[..., Server]

ECHO = """
guide = false
[models.echo]
backend = "fake"
script = "{script}"
"""


def test_alive_before_ready_and_the_reason_is_told(serve: Serve) -> None:
    """/healthz answers while the model loads; /readyz is 503 with the model's state until it can answer."""
    server = serve(ECHO.format(script="load=3")).listen()
    assert server.get("/healthz")[0] == 200
    status, body = server.get("/readyz")
    assert status == 503
    assert body["models"]["echo"] in {"unloaded", "queued", "loading"}
    assert body["reason"]
    server.ready()


def test_no_orphan_survives_a_killed_daemon(serve: Serve) -> None:
    """SIGKILL of the daemon: its workers are gone within seconds."""
    server = serve(ECHO.format(script="")).ready()
    worker = psutil.Process(server.worker("echo"))
    os.kill(server.pid, signal.SIGKILL)
    server.process.wait(5)
    worker.wait(10)
