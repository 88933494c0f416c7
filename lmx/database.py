"""A SQLite file of the user's own, of one schema. Everything here may block."""

import os
import re
import sqlite3
from pathlib import Path


class WrongVersionError(Exception):
    """The file was written by an lmx with another schema, or by something else."""


def opened(path: Path, schema: str, version: int) -> sqlite3.Connection:
    """For writing, by one thread; made by `schema`, which sets its version, when it is new.

    Raises OSError, sqlite3.Error and WrongVersionError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite would let others read it
    db = sqlite3.connect(path, timeout=1.0, isolation_level=None)
    try:
        _prepare(db, schema, version)
    except (sqlite3.Error, WrongVersionError):
        db.close()
        raise
    return db


def number(db: sqlite3.Connection, question: str) -> int:
    """The answer to a question that has one."""
    return int(db.execute(question).fetchone()[0])


def _prepare(db: sqlite3.Connection, schema: str, version: int) -> None:
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    found, tables = number(db, "PRAGMA user_version"), _tables(db)
    if found == 0 and not tables:
        db.executescript(f"BEGIN; {schema} COMMIT;")
    elif found != version:
        raise WrongVersionError(f"it has schema {found}, not {version}")
    elif lost := set(re.findall(r"CREATE TABLE (\w+)", schema)) - tables:
        raise WrongVersionError(f"it has no table {', '.join(sorted(lost))}")


def _tables(db: sqlite3.Connection) -> set[str]:
    found = db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
    return {name for (name,) in found}


def damaged(error: Exception) -> bool:
    """Whether the file's content is at fault: then a new one helps."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, WrongVersionError) or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def move_aside(path: Path) -> Path:
    """Rename the file, and replace the one that was moved aside before. Raises OSError."""
    aside = path.with_name(path.name + ".broken")
    path.replace(aside)
    for suffix in ("-wal", "-shm"):
        log = path.with_name(path.name + suffix)
        if log.exists():
            log.replace(aside.with_name(aside.name + suffix))
    return aside
