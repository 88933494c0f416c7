"""How the daemon stops: in time, whatever runs, and whoever does not want to."""

import http.client
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from tests.support.server import Server, remembered

Serve = Callable[..., Server]

ECHO = """
guide = false
[models.echo]
backend = "fake"
script = "{script}"
slots = 12
[server]
drain_seconds = {drain}
"""


class Kept:
    """A connection that stays open, as a proxy's do."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection(str(urlsplit(server.url).netloc), timeout=30)
        self._connection.connect()

    def ask(self, path: str, body: object = None) -> tuple[int, Any]:
        content = json.dumps(body) if body is not None else None
        self._connection.request("POST" if body else "GET", path, content, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def state(self, actor: str) -> str:
        machines = self.ask("/admin/machines")[1]["machines"]
        return str(next(machine for machine in machines if machine["actor"] == actor)["state"])

    def close(self) -> None:
        self._connection.close()


class Streams:
    """Clients that read until their streams end."""

    def __init__(self, server: Server, count: int, length: int) -> None:
        self._server = server
        self._body = {
            "model": "echo",
            "messages": [{"role": "user", "content": "x" * length}],
            "stream": True,
        }
        self.ends: list[list[str]] = []
        self._threads = [threading.Thread(target=self._read) for _ in range(count)]
        for thread in self._threads:
            thread.start()
        server.until(lambda: server.machine("model:echo")["facts"]["in_flight"], lambda running: running == count)

    def _read(self) -> None:
        self.ends.append(list(self._server.events("/v1/chat/completions", self._body))[-2:])

    def join(self) -> list[list[str]]:
        for thread in self._threads:
            thread.join(30)
        assert len(self.ends) == len(self._threads)
        return self.ends


@contextmanager
def kept(server: Server) -> Iterator[Kept]:
    connection = Kept(server)
    try:
        yield connection
    finally:
        connection.close()


def stopped(server: Server, began: float, seconds: float) -> int:
    """Wait for its end, which must come within so many seconds of `began`; its exit code."""
    code = server.process.wait(seconds + 30)
    assert time.monotonic() - began <= seconds
    return code


def gone(pid: int) -> None:
    """The process is dead, and whoever inherited it has reaped it within a second."""
    with suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(1.0)


def refused_after(server: Server, since: float) -> float:
    """Seconds from `since` until nobody can connect any more."""
    address = urlsplit(server.url)
    assert address.hostname is not None
    assert address.port is not None
    while time.monotonic() - since < 5.0:
        with socket.socket() as attempt:
            if attempt.connect_ex((address.hostname, address.port)):
                return time.monotonic() - since
    raise AssertionError("it goes on listening")


def test_sigterm_closes_the_listener_and_lets_ten_streams_end(serve: Serve) -> None:
    """New connections are refused within 100 ms; open ones are served, told that it is not ready, and refused work;
    all ten answers are whole; exit code 0, and no process is left."""
    server = serve(ECHO.format(script="step=0.02", drain=30)).ready()
    worker = server.worker("echo")
    with kept(server) as connection:
        streams = Streams(server, 10, 150)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert refused_after(server, began) <= 0.1
        server.until(lambda: connection.state("server"), lambda state: state == "draining")
        assert connection.ask("/readyz")[0] == 503
        status, refused = connection.ask("/v1/completions", {"model": "echo", "prompt": "x"})
        assert (status, refused["error"]["code"]) == (503, "draining")
        assert all(
            end[-1] == "[DONE]" and '"finish_reason":"stop"' in end[0].replace(" ", "") for end in streams.join()
        )
    assert stopped(server, began, 30.0) == 0
    gone(worker)


def test_what_takes_longer_than_the_deadline_is_told_so(serve: Serve) -> None:
    """One deadline for everything in flight: then an error event, the end of the stream, and exit code 0."""
    server = serve(ECHO.format(script="step=0.02", drain=1)).ready()
    streams = Streams(server, 3, 3000)
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert stopped(server, began, 4.0) == 0
    for error, done in streams.join():
        assert json.loads(error)["error"]["code"] == "aborted"
        assert done == "[DONE]"


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_asked_twice_it_does_not_wait(serve: Serve, second: signal.Signals) -> None:
    """It aborts what runs, tells its clients, and ends within two seconds."""
    server = serve(ECHO.format(script="step=0.02", drain=30)).ready()
    with kept(server) as connection:
        streams = Streams(server, 1, 3000)
        server.process.send_signal(signal.SIGTERM)
        server.until(lambda: connection.state("server"), lambda state: state == "draining")
        began = time.monotonic()
        server.process.send_signal(second)
        assert stopped(server, began, 2.0) == 0
    assert json.loads(streams.join()[0][0])["error"]["code"] == "aborted"


def test_asked_twice_it_does_not_wait_for_a_stuck_worker_either(serve: Serve) -> None:
    """A worker that does not move is killed, and the second signal still ends it within two seconds."""
    server = serve(ECHO.format(script="step=0.02", drain=30)).ready()
    worker = server.worker("echo")
    with kept(server) as connection:
        streams = Streams(server, 1, 3000)
        os.kill(worker, signal.SIGSTOP)
        server.process.send_signal(signal.SIGTERM)
        server.until(lambda: connection.state("server"), lambda state: state == "draining")
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert stopped(server, began, 2.0) == 0
    streams.join()
    gone(worker)


def test_sighup_stops_nothing(serve: Serve) -> None:
    """Neither while it serves nor while it drains; the log says that there is nothing to be read again."""
    server = serve(ECHO.format(script="step=0.02", drain=30)).ready()
    server.process.send_signal(signal.SIGHUP)
    server.until(lambda: "".join(server.log), lambda log: "sighup_ignored" in log)
    with kept(server) as connection:
        streams = Streams(server, 1, 100)
        server.process.send_signal(signal.SIGTERM)
        server.until(lambda: connection.state("server"), lambda state: state == "draining")
        server.process.send_signal(signal.SIGHUP)
        server.until(lambda: "".join(server.log), lambda log: log.count("sighup_ignored") == 2)
        assert connection.state("server") == "draining"
        assert streams.join()[0][-1] == "[DONE]"
    assert server.process.wait(10) == 0


@pytest.mark.parametrize("stuck", [False, True])
def test_a_stop_during_a_load_is_quick(serve: Serve, stuck: bool) -> None:
    """A load of ten seconds is no reason to wait: three seconds, no orphan, also when the worker does not listen."""
    server = serve(ECHO.format(script="load=10", drain=30)).listen()
    worker = int(server.until(lambda: server.machine("model:echo")["facts"].get("pid"), bool))
    server.until(lambda: server.machine("model:echo")["facts"].get("load_progress"), bool)
    if stuck:
        os.kill(worker, signal.SIGSTOP)
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert stopped(server, began, 3.0) == 0
    gone(worker)


def test_a_stuck_worker_is_killed_at_the_deadline(serve: Serve) -> None:
    """Stopped in the middle of a stream it holds up the end for ten seconds beyond the drain at most."""
    server = serve(ECHO.format(script="step=0.02", drain=2)).ready()
    worker = server.worker("echo")
    streams = Streams(server, 1, 3000)
    os.kill(worker, signal.SIGSTOP)
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert stopped(server, began, 12.0) == 0
    assert streams.join()[0][-1] == "[DONE]"
    gone(worker)


def test_a_kill_during_the_drain_leaves_no_orphan(serve: Serve) -> None:
    """SIGKILL of the draining daemon: its worker is gone within ten seconds, and what was loaded is to be restored."""
    server = serve(ECHO.format(script="step=0.02", drain=30)).ready()
    worker = psutil.Process(server.worker("echo"))
    server.until(lambda: remembered(server.folder)["loaded"], bool)
    with kept(server) as connection:
        body = {"model": "echo", "messages": [{"role": "user", "content": "x" * 3000}], "stream": True}
        stream = server.events("/v1/chat/completions", body)
        next(stream)
        server.process.send_signal(signal.SIGTERM)
        server.until(lambda: connection.state("server"), lambda state: state == "draining")
    os.kill(server.pid, signal.SIGKILL)
    server.process.wait(5)
    worker.wait(10)
    assert "[DONE]" not in list(stream)
    assert remembered(server.folder)["loaded"] == ["echo"]
    assert len(remembered(server.folder)["starts"]) == 1
