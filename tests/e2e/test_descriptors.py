"""Few open files, closed streams, and a log that nobody reads: F24, F52, F53, F61."""

import fcntl
import http.client
import json
import signal
import socket
import subprocess
import sys
import termios
import time
import urllib.request
from array import array
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.support.server import Server

ECHO = """
guide = false
[models.echo]
backend = "fake"
"""


def asked(connection: http.client.HTTPConnection) -> int:
    connection.request("GET", "/healthz")
    answer = connection.getresponse()
    answer.read()
    return answer.status


def test_one_connection_too_many_is_told_so(tmp_path: Path) -> None:
    """With 128 files there is room for 32 connections: the next one gets 503, not silence; the first still works."""
    server = Server(tmp_path, ECHO, shell="ulimit -n 128").ready()
    host, port = server.url.removeprefix("http://").split(":")
    with ExitStack() as open_ones:
        inside: list[http.client.HTTPConnection] = []
        refused = 0
        for _ in range(40):
            connection = http.client.HTTPConnection(host, int(port), timeout=10)
            open_ones.callback(connection.close)
            status = asked(connection)
            inside += [connection] if status == 200 else []
            refused += status == 503
        assert len(inside) + refused == 40
        assert 30 <= len(inside) <= 32
        assert all(asked(connection) == 200 for connection in inside)
    server.until(lambda: server.get("/healthz")[0], lambda status: status == 200, 5)
    assert server.stop() == 0


def test_no_file_is_left_and_it_goes_on(tmp_path: Path) -> None:
    """F24: a flood at 64 files. Who was connected is served, a killed worker comes back, the log stays readable."""
    server = Server(tmp_path, ECHO, shell="ulimit -n 64").ready()
    host, port = server.url.removeprefix("http://").split(":")
    first = http.client.HTTPConnection(host, int(port), timeout=10)
    assert asked(first) == 200
    worker = server.worker("echo")
    before = len(server.log)
    started = time.monotonic()
    with ExitStack() as flood:
        for _ in range(300):
            sock = flood.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex((host, int(port)))
        psutil.Process(worker).kill()
        while time.monotonic() - started < 4:
            assert asked(first) == 200
            time.sleep(0.1)
    lines = [line for line in server.log[before:] if "accept()" in line or "request" not in line]
    assert len(lines) <= 15 * (time.monotonic() - started + 1), lines[:20]
    released = time.monotonic()
    server.until(lambda: reached(server), bool, 5)
    assert time.monotonic() - released < 5
    server.until(lambda: server.machine("model:echo")["state"], lambda state: state == "ready", 30)
    assert server.worker("echo") != worker
    first.close()
    assert server.stop() == 0


def reached(server: Server) -> bool:
    try:
        return server.get("/healthz")[0] == 200
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until_ready(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("it never became ready")


Command = Callable[[int], list[str]]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    (tmp_path / "lmx.toml").write_text(f'state_dir = "{tmp_path}/state"\n{ECHO}')
    return lambda port: ["serve", "--config", f"{tmp_path}/lmx.toml", "--port", str(port), "--log-level", "debug"]


def test_a_log_that_nobody_reads_holds_up_nobody(command: Command) -> None:
    """F53: the pipe fills up, requests are answered, what was dropped is counted, SIGTERM ends it with 0."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "lmx", *command(port)], stderr=subprocess.PIPE)
    try:
        until_ready(port, process)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        for _ in range(1500):
            assert asked(connection) == 200
        connection.close()
        assert process.stderr is not None
        assert pending(process.stderr.fileno()) > 60_000
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        process.stderr.close()
    finally:
        process.kill()


def pending(fd: int) -> int:
    """Bytes in a pipe that nobody has read."""
    count = array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]


@pytest.mark.parametrize("where", ["<&- >&- 2>&-", "2>/dev/full", ""], ids=["closed", "full", "gone"])
def test_a_log_that_cannot_be_written_is_no_fault(command: Command, where: str) -> None:
    """F52, F61: streams that are closed, a disk that is full, a reader that is gone; it serves, and stops with 0."""
    port = free_port()
    shell = ["sh", "-c", f'exec "$0" -m lmx "$@" {where}', sys.executable, *command(port)]
    process = subprocess.Popen(shell, stderr=subprocess.PIPE)
    assert process.stderr is not None
    process.stderr.close()
    try:
        until_ready(port, process)
        body = json.dumps({"model": "echo", "prompt": "x"}).encode()
        url, headers = f"http://127.0.0.1:{port}/v1/completions", {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=20) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
