"""Records as actors tell them, and journals made of them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lmx.actors.messages import journal
from lmx.journal import Journal, Retention
from lmx.journal_file import Run
from lmx.system import SystemClock
from tests.support.inbox import Inbox

KEEP_ALL = Retention(days=100_000.0, size=256_000_000)


def moved(number: int = 0, **fields: Any) -> journal.Transition:
    """A model's load number `number`."""
    usual: dict[str, Any] = {
        "actor": "model:m",
        "machine": "model",
        "event": "request",
        "source": "unloaded",
        "target": "queued",
        "at": 1_000_000.0 + number,
        "legal": ("granted",),
        "reason": f"number {number}",
        "effects": ("AcquireLoader",),
    }
    return journal.Transition(**usual | fields)


def decided(**fields: Any) -> journal.Decided:
    usual: dict[str, Any] = {
        "actor": "crash_loop",
        "policy": "lmx.machines.crash_loop.unclean_starts",
        "inputs": {"starts": [1.0, 59.0], "now": 60.0},
        "outcome": 2,
        "at": 60.0,
    }
    return journal.Decided(**usual | fields)


class Kept:
    """A journal at `path` that is open; `errors` are what it reported."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.errors: Inbox[str | None] = Inbox()
        clock = options.pop("clock", SystemClock())
        retention = options.pop("retention", KEEP_ALL)
        self.journal = Journal(path, Run(1.0, "0", 1), clock, retention, **options)
        self.journal.start(self.errors.tell)

    def tell(self, records: Iterable[journal.Record]) -> None:
        for record in records:
            self.journal.tell(record)

    def stop(self) -> None:
        assert self.journal.stop(10.0)


def write(path: Path, records: Iterable[journal.Record]) -> None:
    """One run."""
    kept = Kept(path)
    kept.tell(records)
    kept.stop()
