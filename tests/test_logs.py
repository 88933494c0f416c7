"""The log is never in the way: F24, F52, F53."""

import fcntl
import logging
import os
import select
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from lmx.logs import Rate, Writer

Pipe = tuple[int, int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    read, write = os.pipe()
    yield read, write
    for fd in (read, write):
        try:
            os.close(fd)
        except OSError:
            assert fd == read  # a test may have closed its end


def nobody(count: int) -> None:
    raise AssertionError(f"{count} lines were dropped")


def test_lines_come_whole_and_in_order(pipe: Pipe) -> None:
    """Also what UTF-8 cannot hold."""
    writer = Writer(pipe[1], nobody)
    for line in ("one\n", "zwei ä\n", "\ud800\n"):
        writer.write(line)
    assert writer.drain(5)
    assert os.read(pipe[0], 1000).decode() == "one\nzwei ä\n\\ud800\n"


def test_a_reader_that_does_not_read_holds_up_nobody(pipe: Pipe) -> None:
    """F53: the pipe is full; what is too much is dropped, counted, and told once there is a reader again."""
    told = threading.Event()
    counts: list[int] = []

    def complain(count: int) -> None:
        counts.append(count)
        told.set()

    filled = fill(pipe[1])
    writer = Writer(pipe[1], complain, kept=100)
    for number in range(5000):
        writer.write(f"{number:04d}\n")
    assert not writer.drain(0.1)
    got = b""
    while not told.is_set():
        got += waiting(pipe[0])
    assert writer.drain(5)
    got += waiting(pipe[0])
    numbers = [int(line) for line in got[filled:].splitlines()]
    assert len(numbers) + counts[0] == 5000
    assert numbers == sorted(set(numbers))


def waiting(fd: int) -> bytes:
    """What is there to be read, or comes within a moment."""
    return os.read(fd, 1 << 20) if select.select([fd], [], [], 0.05)[0] else b""


def fill(fd: int) -> int:
    """Write until nothing more goes in; returns how many bytes."""
    flags, count = fcntl.fcntl(fd, fcntl.F_GETFL), 0
    fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            count += os.write(fd, b".")
    fcntl.fcntl(fd, fcntl.F_SETFL, flags)
    return count


def test_nobody_at_the_other_end_is_no_fault(pipe: Pipe) -> None:
    """F52: EPIPE for every line, and the process goes on."""
    os.close(pipe[0])
    writer = Writer(pipe[1], nobody)
    writer.write("into the void\n")
    assert writer.drain(5)


def test_an_end_that_must_not_block_is_waited_for(pipe: Pipe) -> None:
    """A terminal that another program made non-blocking: no line is lost for that."""
    fcntl.fcntl(pipe[1], fcntl.F_SETFL, fcntl.fcntl(pipe[1], fcntl.F_GETFL) | os.O_NONBLOCK)
    writer = Writer(pipe[1], nobody)
    for _ in range(2000):
        writer.write("x" * 99 + "\n")
    got = 0
    while got < 200_000:
        got += len(os.read(pipe[0], 65536))
    assert writer.drain(5)
    assert got == 200_000


def test_a_library_may_complain_ten_times_a_second() -> None:
    """F24: asyncio logs each accept() that fails, hundreds at a time; the next second tells how many there were."""
    now = [50.0]
    rate = Rate(10, lambda: now[0])

    def passed() -> str | None:
        record = logging.LogRecord("asyncio", logging.ERROR, "", 0, "accept() failed", (), None)
        return record.getMessage() if rate.filter(record) else None

    assert [passed() for _ in range(500)].count(None) == 490
    now[0] += 1
    assert passed() == "accept() failed (and 490 more that were not logged)"
    now[0] += 1
    assert passed() == "accept() failed"
