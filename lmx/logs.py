"""structlog for everything: lines for people on a terminal, JSON for programs; always on stderr, never in the way."""

import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import TextIO, cast

import structlog

from lmx.actors import metrics
from lmx.config import Logs

STDERR = 2
KEPT = 10_000
"""Lines that wait for a slow reader; more are dropped, and counted."""
COMPLAINTS = 10
"""Lines a second that a library may write about the same trouble."""


class Writer:
    """A text stream whose lines a thread of its own writes: who logs never waits for who reads."""

    def __init__(self, fd: int, complain: Callable[[int], None], kept: int = KEPT) -> None:
        """`complain(count)` is told how many lines were dropped, in the writing thread, once lines get through."""
        self._fd = fd
        self._complain = complain
        self._kept = kept
        self._lines: SimpleQueue[str | threading.Event] = SimpleQueue()
        self._dropped = 0
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def write(self, text: str) -> None:
        if self._lines.qsize() < self._kept:
            self._lines.put(text)
        else:
            self._drop()

    def flush(self) -> None:
        """Nothing to do: a stream must have it."""

    def drain(self, seconds: float) -> bool:
        """Wait until what was written before is out; False when that took too long."""
        out = threading.Event()
        self._lines.put(out)
        return out.wait(seconds)

    def _run(self) -> None:
        while True:
            line = self._lines.get()
            if isinstance(line, threading.Event):
                line.set()
            elif self._put(line.encode(errors="backslashreplace")) and self._dropped:
                dropped, self._dropped = self._dropped, 0
                self._complain(dropped)

    def _put(self, line: bytes) -> bool:
        try:
            while line:
                line = line[self._write_some(line) :]
        except OSError:  # closed, or its disk is full
            self._drop()
            return False
        return True

    def _write_some(self, line: bytes) -> int:
        try:
            return os.write(self._fd, line)
        except BlockingIOError:  # somebody who shares it made it so
            select.select([], [self._fd], [])
            return 0

    def _drop(self) -> None:
        self._dropped += 1
        metrics.LOG_LINES_DROPPED.inc()


class Rate(logging.Filter):
    """Lets through so many records a second; the first one of the next second tells how many it held back."""

    def __init__(self, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._per_second = per_second
        self._clock = clock
        self._second = 0
        self._seen = 0

    def filter(self, record: logging.LogRecord) -> bool:
        second = int(self._clock())
        if second != self._second:
            held = self._seen - self._per_second
            self._second, self._seen = second, 0
            if held > 0:
                record.msg = f"{record.msg} (and {held} more that were not logged)"
        self._seen += 1
        return self._seen <= self._per_second


_writers: list[Writer] = []


def configure(logs: Logs) -> None:
    """Set up structlog, and lead the standard library's loggers (aiohttp, asyncio, pykka) into it."""
    console = logs.format == "console" or (logs.format == "auto" and sys.stderr is not None and sys.stderr.isatty())
    level = logging.getLevelNamesMapping()[logs.level.upper()]
    writer = Writer(STDERR, lambda count: structlog.get_logger().warning("log_lines_dropped", count=count))
    _writers.append(writer)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.UnicodeDecoder(),
    ]
    last: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", writer)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(writer)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
    logging.getLogger("asyncio").addFilter(Rate(COMPLAINTS))


def drain(seconds: float) -> None:
    """Wait until every line is out, but no longer."""
    for writer in _writers:
        writer.drain(seconds)
