"""Writes the journal on a thread of its own: whoever tells it something never waits, whatever the disk does."""

import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import structlog

from lmx import __version__
from lmx.actors.messages import journal
from lmx.actors.ports import Clock
from lmx.config import Config
from lmx.database import WrongVersionError, damaged, move_aside
from lmx.journal_file import NAME, JournalFile, Row, Run, row

WAITING = 10_000
"""Records that wait for the disk; more are dropped, and counted."""
BATCH = 200
PAUSE = 0.2
"""Seconds that a record waits for others to be written with it."""
RETRY = 5.0
"""Seconds until a disk that failed is tried again."""
TIDY_SECONDS, TIDY_ROWS = 60.0, 2000
"""How often it is looked whether something must go: whichever comes first."""
TIDY_PAUSE = 0.01
SILENCE = 60.0
"""Seconds between two lines of the log about the same trouble."""
DAY = 86_400.0


class Retention(NamedTuple):
    days: float
    size: int
    """Bytes."""


class _Dropped(NamedTuple):
    records: int
    at: float


class Journal:
    """The journal actor's store. Records are on disk PAUSE seconds later, and all of them after `stop`."""

    def __init__(
        self, path: Path, run: Run, clock: Clock, retention: Retention, waiting: int = WAITING, retry: float = RETRY
    ) -> None:
        """`waiting` is how many records may wait for the disk, `retry` how many seconds a disk that failed has rest."""
        self.path = path
        self._run = run
        self._clock = clock
        self._retention = retention
        self._limit = waiting
        self._retry = retry
        self._waiting: deque[tuple[float, journal.Record | _Dropped]] = deque()
        self._dropped = 0
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._live, name="journal", daemon=True)
        self._report: Callable[[str | None], None] = lambda _: None
        self._file: JournalFile | None = None
        self._number: int | None = None
        self._error = ""
        self._complained = -SILENCE
        self._rows = 0
        self._tidy_at = 0.0
        self._rest = retry

    def start(self, report: Callable[[str | None], None]) -> None:
        """`report(error)` is called whenever that changes: a sentence, or None when all is well again."""
        self._report = report
        self._thread.start()

    def tell(self, record: journal.Record) -> None:
        """Keep it; returns at once."""
        now = self._clock.monotonic()
        with self._changed:
            if len(self._waiting) >= self._limit:
                self._dropped += 1
                return
            self._admit_drops()
            self._waiting.append((now, record))
            if len(self._waiting) in (1, BATCH):
                self._changed.notify()

    def stop(self, seconds: float = 5.0) -> bool:
        """Write what waits and close the file; False when that took too long."""
        with self._changed:
            self._admit_drops()
            self._stopped = True
            self._changed.notify()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _admit_drops(self) -> None:
        """A gap is told where it is."""
        if self._dropped:
            self._waiting.append((self._clock.monotonic(), _Dropped(self._dropped, self._clock.time())))
            self._dropped = 0

    def _live(self) -> None:
        try:
            self._work()
        finally:
            if not self._stopped:
                self._tell_error("The thread that writes the journal has ended, which is a fault of lmx.")

    def _work(self) -> None:
        while True:
            rows = [_row(*item) for item in self._next()]
            while not self._written(rows):
                if self._gives_up():
                    return
            if self._is_over():
                break
        if self._file is not None:
            self._file.close()

    def _next(self) -> list[tuple[float, journal.Record | _Dropped]]:
        """As soon as there are BATCH records, or one has waited for PAUSE; none when it is time to tidy."""
        with self._changed:
            rest = max(0.0, self._tidy_at - self._clock.monotonic())
            self._changed.wait_for(lambda: self._waiting or self._stopped, rest)
            if self._waiting:
                self._changed.wait_for(lambda: len(self._waiting) >= BATCH or self._stopped, PAUSE)
            return [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]

    def _is_over(self) -> bool:
        with self._changed:
            return self._stopped and not self._waiting

    def _written(self, rows: list[Row]) -> bool:
        try:
            if self._file is None:
                self._file = JournalFile(self.path, self._run, self._number)
                self._number = self._file.run
            if rows:
                self._file.add(rows)
                self._rows += len(rows)
            rows.clear()
            self._tidy(self._file)
        except (sqlite3.Error, OSError, WrongVersionError) as error:
            self._failed(error)
            return False
        self._tell_error("")
        return True

    def _tidy(self, file: JournalFile) -> None:
        """One step of pruning, when it is time for it."""
        now = self._clock.monotonic()
        if now < self._tidy_at and self._rows < TIDY_ROWS:
            return
        self._rows = 0
        more = file.prune(self._clock.time() - self._retention.days * DAY, self._retention.size)
        self._tidy_at = now + (TIDY_PAUSE if more else TIDY_SECONDS)

    def _failed(self, error: Exception) -> None:
        if self._file is not None:
            with suppress(sqlite3.Error):
                self._file.close()
            self._file = None
        text = f"The journal {self.path} cannot be written: {error}."
        self._rest = self._retry
        if damaged(error):
            with suppress(OSError):  # then it cannot be opened either, and is tried again later
                text += f" It was moved to {move_aside(self.path)}."
                self._rest = self._retry if self._error else 0.0
        self._tell_error(text)

    def _gives_up(self) -> bool:
        """Wait before the next try; True: there will be none."""
        with self._changed:
            return self._changed.wait_for(lambda: self._stopped, self._rest) and self._rest > 0

    def _tell_error(self, text: str) -> None:
        if text and (now := self._clock.monotonic()) - self._complained >= SILENCE:
            self._complained = now
            structlog.get_logger().error("journal_failed", error=text)
        if text != self._error:
            self._error = text
            self._report(text or None)


def opened(config: Config, clock: Clock) -> Journal | None:
    """The journal of a daemon that starts now; None = it is not wanted."""
    wanted = config.journal
    if not wanted.enabled:
        return None
    run = Run(clock.time(), __version__, os.getpid())
    return Journal(Path(config.state_dir) / NAME, run, clock, Retention(wanted.days, wanted.bytes))


def _row(monotonic: float, record: journal.Record | _Dropped) -> Row:
    if isinstance(record, _Dropped):
        return Row(at=record.at, monotonic=monotonic, kind="dropped", actor="journal", event=str(record.records))
    return row(record, monotonic)
