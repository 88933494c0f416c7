"""The journal's SQLite file: its schema, and what is done with it. Everything here may block; see lmx/journal.py."""

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from lmx.actors.messages import journal
from lmx.database import number, opened

NAME = "journal.db"
VERSION = 1
STEP = 400
"""Entries that one step of pruning deletes at most."""
PAGES = 512
"""Pages that it gives back to the file system at most."""

SCHEMA = f"""
CREATE TABLE runs (id INTEGER PRIMARY KEY, started REAL NOT NULL, version TEXT NOT NULL, pid INTEGER NOT NULL);
CREATE TABLE entries (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL, at REAL NOT NULL, monotonic REAL NOT NULL,
  kind TEXT NOT NULL, actor TEXT NOT NULL, machine TEXT NOT NULL, event TEXT NOT NULL, source TEXT NOT NULL,
  target TEXT NOT NULL, reason TEXT NOT NULL, data TEXT, effects TEXT, memory TEXT, exact INTEGER NOT NULL
);
PRAGMA user_version = {VERSION};
"""
_INSERT = f"INSERT INTO entries VALUES (NULL{', ?' * 14})"


class Run(NamedTuple):
    """One start of the daemon."""

    started: float
    version: str
    pid: int


class Row(Struct, frozen=True, kw_only=True):
    """An entry without its seq and its run, in the order of the columns."""

    at: float
    monotonic: float
    kind: journal.Kind
    actor: str = ""
    machine: str = ""
    event: str = ""
    source: str = ""
    target: str = ""
    reason: str = ""
    data: str | None = None
    effects: str | None = None
    memory: str | None = None
    exact: bool = True


def row(record: journal.Record, monotonic: float) -> Row:
    """What cannot be a text of UTF-8 (half of a surrogate pair) becomes a question mark."""
    match record:
        case journal.Transition():
            return Row(
                at=record.at,
                monotonic=monotonic,
                kind="event" if record.source else "start",
                actor=_text(record.actor),
                machine=record.machine,
                event=record.event,
                source=record.source,
                target=record.target,
                reason=_text(record.reason),
                data=_json(record.data),
                effects=_json(record.effects),
                memory=_json(record.memory),
                exact=record.exact,
            )
        case journal.Decided():
            return Row(
                at=record.at,
                monotonic=monotonic,
                kind="decision",
                actor=_text(record.actor),
                event=record.policy,
                data=_json(record.inputs),
                effects=_json(record.outcome),
                exact=record.exact,
            )


def _text(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _json(value: object) -> str:
    """Of what the scribe has made plain already."""
    return msgspec.json.encode(value).decode()


class JournalFile:
    """Open for writing, by one thread. Everything raises sqlite3.Error."""

    def __init__(self, path: Path, run: Run, known: int | None = None) -> None:
        """`known` is the number of a run that goes on. Raises OSError and WrongVersionError too."""
        self._db = opened(path, SCHEMA, VERSION)
        try:
            self.run = self._begin(run, known)
        except sqlite3.Error:
            self._db.close()
            raise

    def _begin(self, run: Run, known: int | None) -> int:
        own = number(self._db, "SELECT coalesce(max(id), 0) + 1 FROM runs") if known is None else known
        self._db.execute("INSERT OR IGNORE INTO runs VALUES (?, ?, ?, ?)", (own, *run))
        return own

    def add(self, rows: Iterable[Row]) -> None:
        """All or none of them."""
        values = [(self.run, *(getattr(row, name) for name in Row.__struct_fields__)) for row in rows]
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany(_INSERT, values)
            self._db.execute("COMMIT")
        except sqlite3.Error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def prune(self, oldest: float, most_bytes: int) -> bool:
        """Delete a few of the first entries if they are from before `oldest` (unix time) or the file is too large.

        True: there may be more to do.
        """
        deleted = self._delete(oldest, large=self.bytes() > most_bytes)
        if number(self._db, "PRAGMA freelist_count") > PAGES:
            self._db.executescript(f"PRAGMA incremental_vacuum({PAGES});")  # `execute` would give back one page
            return True
        return deleted

    def _delete(self, oldest: float, *, large: bool) -> bool:
        first = self._db.execute("SELECT at FROM entries ORDER BY seq LIMIT 1").fetchone()
        if first is None or not (large or first[0] < oldest):
            return False
        last = number(self._db, f"SELECT max(seq) FROM (SELECT seq FROM entries ORDER BY seq LIMIT {STEP})")
        self._db.execute("DELETE FROM entries WHERE seq <= ? AND (? OR at < ?)", (last, large, oldest))
        self._db.execute(
            "DELETE FROM runs WHERE id < (SELECT run FROM entries ORDER BY seq LIMIT 1) AND id < ?", (self.run,)
        )
        return True

    def bytes(self) -> int:
        """What its content takes."""
        pages = number(self._db, "PRAGMA page_count") - number(self._db, "PRAGMA freelist_count")
        return pages * number(self._db, "PRAGMA page_size")

    def close(self) -> None:
        self._db.close()
