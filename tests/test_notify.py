"""What systemd is told, through a real socket."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lmx.notify import Notify

Open = Callable[[str], socket.socket]


@pytest.fixture
def listen() -> Iterator[Open]:
    """A service manager's socket at an address as NOTIFY_SOCKET has it."""
    opened: list[socket.socket] = []

    def start(address: str) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        opened.append(sock)
        sock.settimeout(5)
        sock.bind("\0" + address[1:] if address.startswith("@") else address)
        return sock

    yield start
    for sock in opened:
        sock.close()


@pytest.mark.parametrize("abstract", [False, True])
def test_every_word_arrives(listen: Open, tmp_path: Path, abstract: bool) -> None:
    """READY when it listens, STOPPING when it drains, each with a sentence; the socket may be abstract."""
    address = f"@lmx-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    manager = listen(address)
    notify = Notify.of({"NOTIFY_SOCKET": address})
    notify.ready("It listens.")
    notify.stopping("SIGTERM was received.")
    assert manager.recv(1000) == b"READY=1\nSTATUS=It listens."
    assert manager.recv(1000) == b"STOPPING=1\nSTATUS=SIGTERM was received."


def test_the_watchdog_is_fed_twice_in_its_period(listen: Open, tmp_path: Path) -> None:
    """WATCHDOG_USEC=2 s: one word a second, however often it is said that all is well."""
    manager = listen(str(tmp_path / "notify"))
    notify = Notify.of({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2000000"})
    for now in (100.0, 100.5, 100.9, 101.0, 101.5, 102.1):
        notify.alive(now)
    manager.setblocking(False)
    assert [manager.recv(1000) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    with pytest.raises(BlockingIOError):
        manager.recv(1000)


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"WATCHDOG_USEC": ""},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"},
    ],
)
def test_no_watchdog_is_fed_that_nobody_asked_for(listen: Open, tmp_path: Path, words: dict[str, str]) -> None:
    """No period, a senseless one, or one that is meant for another process."""
    manager = listen(str(tmp_path / "notify"))
    Notify.of({"NOTIFY_SOCKET": str(tmp_path / "notify"), **words}).alive(1.0)
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(1000)


def test_our_own_pid_is_meant(listen: Open, tmp_path: Path) -> None:
    manager = listen(str(tmp_path / "notify"))
    words = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}
    Notify.of(words).alive(1.0)
    assert manager.recv(1000) == b"WATCHDOG=1"


def test_nobody_need_listen(listen: Open, tmp_path: Path) -> None:
    """Without a service manager, with one that is gone or whose inbox is full: nothing is raised, nothing waits."""
    Notify.of({}).ready("")
    Notify.of({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("")
    listen(str(tmp_path / "deaf"))
    deaf = Notify.of({"NOTIFY_SOCKET": str(tmp_path / "deaf")})
    for _ in range(1000):
        deaf.ready("x" * 1000)
