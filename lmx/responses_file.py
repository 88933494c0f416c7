"""The SQLite file of stored responses: its schema, and what is done with it. Everything here may block."""

import sqlite3
from pathlib import Path
from typing import NamedTuple

from lmx.database import number, opened
from lmx.http.responses.shelf import Stored

NAME = "responses.db"
VERSION = 1
PAGES = 512
"""Pages that one step gives back to the file system at most."""

# `used` counts up: the least of them is the one that nobody has gone on from for longest.
SCHEMA = f"""
CREATE TABLE responses (
  id TEXT PRIMARY KEY, owner TEXT NOT NULL, previous TEXT NOT NULL, used INTEGER NOT NULL, size INTEGER NOT NULL,
  response BLOB NOT NULL, input BLOB NOT NULL
);
CREATE INDEX by_use ON responses (used);
CREATE TABLE items (id TEXT NOT NULL, response TEXT NOT NULL, PRIMARY KEY (id, response)) WITHOUT ROWID;
CREATE INDEX of_response ON items (response);
PRAGMA user_version = {VERSION};
"""
_COLUMNS = "id, owner, previous, response, input"
_PLAIN = f"SELECT {_COLUMNS} FROM responses WHERE"
_CHAIN = """
WITH RECURSIVE chain (name, before, depth) AS (
  SELECT id, previous, 0 FROM responses WHERE id = :id AND owner = :owner
  UNION ALL
  SELECT id, previous, depth + 1 FROM responses JOIN chain ON id = before AND owner = :owner
)
"""


class Bounds(NamedTuple):
    """Both hold: whichever is reached first."""

    responses: int
    size: int
    """Bytes."""


class TooLargeError(Exception):
    """A response alone is larger than all together may be."""


class ResponsesFile:
    """Open, by one thread. Everything raises sqlite3.Error."""

    def __init__(self, path: Path, bounds: Bounds) -> None:
        """Raises OSError and WrongVersionError too."""
        self._bounds = bounds
        self._db = opened(path, SCHEMA, VERSION)
        try:
            self._count = number(self._db, "SELECT count(*) FROM responses")
            self._size = number(self._db, "SELECT coalesce(sum(size), 0) FROM responses")
        except sqlite3.Error:
            self._db.close()
            raise

    def keep(self, stored: Stored) -> None:
        """All of it or nothing; those that were used longest ago go. Raises TooLargeError."""
        if stored.size > self._bounds.size:
            raise TooLargeError(f"it has {stored.size} bytes, and all together may have {self._bounds.size}")
        count, size = self._count, self._size
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._remove(stored.id)
            self._insert(stored)
            while self._count > self._bounds.responses or self._size > self._bounds.size:
                self._remove(self._db.execute("SELECT id FROM responses ORDER BY used LIMIT 1").fetchone()[0])
            self._db.execute("COMMIT")
        except sqlite3.Error:
            self._count, self._size = count, size
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._give_back()

    def find(self, owner: str, id: str) -> Stored | None:
        return self._one(f"{_PLAIN} id = ? AND owner = ?", id, owner)

    def with_item(self, owner: str, item: str) -> Stored | None:
        """The latest response that has it."""
        question = f"{_PLAIN} owner = ? AND id IN (SELECT response FROM items WHERE id = ?) ORDER BY used DESC LIMIT 1"
        return self._one(question, owner, item)

    def chain(self, owner: str, id: str) -> list[Stored]:
        """It and what it goes on from, the oldest first; they are used now."""
        given = {"id": id, "owner": owner, "now": self._now()}
        question = f"{_CHAIN} SELECT {_COLUMNS} FROM responses JOIN chain ON id = name ORDER BY depth DESC"
        chain = [_stored(row) for row in self._db.execute(question, given)]
        if chain:
            change = f"{_CHAIN} UPDATE responses SET used = :now WHERE id IN (SELECT name FROM chain)"
            self._db.execute(change, given)
        return chain

    def drop(self, owner: str, id: str) -> bool:
        if self.find(owner, id) is None:
            return False
        self._db.execute("BEGIN IMMEDIATE")
        self._remove(id)
        self._db.execute("COMMIT")
        self._give_back()
        return True

    def close(self) -> None:
        self._db.close()

    def _insert(self, stored: Stored) -> None:
        row = (stored.id, stored.owner, stored.previous, self._now(), stored.size, stored.response, stored.input)
        self._db.execute("INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        pairs = [(item, stored.id) for item in stored.items]
        self._db.executemany("INSERT OR IGNORE INTO items VALUES (?, ?)", pairs)
        self._count, self._size = self._count + 1, self._size + stored.size

    def _remove(self, id: str) -> None:
        row = self._db.execute("DELETE FROM responses WHERE id = ? RETURNING size", (id,)).fetchone()
        if row is not None:
            self._db.execute("DELETE FROM items WHERE response = ?", (id,))
            self._count, self._size = self._count - 1, self._size - row[0]

    def _give_back(self) -> None:
        if number(self._db, "PRAGMA freelist_count") > PAGES:
            self._db.executescript(f"PRAGMA incremental_vacuum({PAGES});")  # `execute` would give back one page

    def _now(self) -> int:
        return number(self._db, "SELECT coalesce(max(used), 0) + 1 FROM responses")

    def _one(self, question: str, *values: str) -> Stored | None:
        row = self._db.execute(question, values).fetchone()
        return _stored(row) if row is not None else None


def _stored(row: tuple[str, str, str, bytes, bytes]) -> Stored:
    id, owner, previous, response, input = row
    return Stored(id=id, owner=owner, previous=previous, response=response, input=input)
