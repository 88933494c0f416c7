"""Reads the journal's file, also of a daemon that is dead or still writes."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from lmx.actors.messages.journal import Entry, Page
from lmx.config import Config
from lmx.journal_file import NAME, VERSION

FETCHED = 500
_COLUMNS = Entry.__struct_fields__
_LISTS = f"SELECT {', '.join(_COLUMNS)} FROM entries"


class UnreadableError(Exception):
    """The file is missing, no journal, or another version's; the message is a sentence."""


class Filter(NamedTuple):
    """What is wanted; empty = all."""

    actor: str = ""
    kind: str = ""
    run: int | None = None
    at_least: float = 0.0
    """Unix time."""

    def where(self) -> tuple[str, list[Any]]:
        wanted = {"actor = ?": self.actor, "kind = ?": self.kind, "run = ?": self.run, "at >= ?": self.at_least}
        found = {clause: value for clause, value in wanted.items() if value}
        return "".join(f" AND {clause}" for clause in found), list(found.values())


ALL = Filter()


def page_of(config: Config) -> Callable[[int | None, str, int], Page] | None:
    """For the admin API: (after which seq or None for the latest, actor or "", how many). It raises OSError."""

    def page(seq: int | None, actor: str, count: int) -> Page:
        path, wanted = Path(config.state_dir) / NAME, Filter(actor=actor)
        try:
            return latest(path, count, wanted) if seq is None else after(path, seq, count, wanted)
        except UnreadableError as error:
            raise OSError(str(error)) from error

    return page if config.journal.enabled else None


def latest(path: Path, count: int, wanted: Filter = ALL) -> Page:
    """The last `count` entries, oldest first. Raises UnreadableError."""
    where, values = wanted.where()
    with closing(_open(path)) as db:
        rows = _ask(db, path, f"{_LISTS} WHERE 1{where} ORDER BY seq DESC LIMIT ?", [*values, count])
        entries = tuple(map(_entry, reversed(rows)))
        [(last,)] = _ask(db, path, "SELECT coalesce(max(seq), 0) FROM entries", [])
    return Page(entries, last)


def after(path: Path, seq: int, count: int, wanted: Filter = ALL) -> Page:
    """At most `count` entries that follow `seq`. Raises UnreadableError."""
    where, values = wanted.where()
    with closing(_open(path)) as db:
        rows = _ask(db, path, f"{_LISTS} WHERE seq > ?{where} ORDER BY seq LIMIT ?", [seq, *values, count])
    entries = tuple(map(_entry, rows))
    return Page(entries, entries[-1].seq if entries else seq)


def every(path: Path, wanted: Filter = ALL) -> Iterator[Entry]:
    """All entries in their order, however many there are. Raises UnreadableError."""
    seq = 0
    while (page := after(path, seq, FETCHED, wanted)).entries:
        yield from page.entries
        seq = page.cursor


def _open(path: Path) -> sqlite3.Connection:
    try:
        there = path.is_file()
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}.") from error
    if not there:
        raise UnreadableError(f"{path} does not exist: there is no journal.")
    try:
        db = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=2.0)
    except sqlite3.Error as error:
        raise UnreadableError(f"{path} cannot be opened: {error}.") from error
    try:
        [(version,)] = _ask(db, path, "PRAGMA user_version", [])
        if version != VERSION:
            raise UnreadableError(f"{path} is no journal of this lmx: its schema is {version}, expected {VERSION}.")
    except UnreadableError:
        db.close()
        raise
    return db


def _ask(db: sqlite3.Connection, path: Path, question: str, values: list[Any]) -> list[tuple[Any, ...]]:
    try:
        return db.execute(question, values).fetchall()
    except sqlite3.Error as error:
        raise UnreadableError(f"{path} cannot be read: {error}.") from error


def _entry(row: tuple[Any, ...]) -> Entry:
    values = dict(zip(_COLUMNS, row, strict=True))
    for name in ("data", "effects", "memory"):
        if values[name] is not None:
            values[name] = _parsed(values[name])
    return Entry(**values | {"exact": bool(values["exact"])})


def _parsed(text: str) -> Any:
    """Somebody may have edited the file."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise UnreadableError(f"The journal holds {text[:100]!r}, which is not JSON: {error}.") from error
