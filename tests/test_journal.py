"""The journal's file: what is told to it is kept, nobody waits for it, and it heals itself."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from lmx.actors.messages.journal import Entry
from lmx.journal import Retention
from lmx.journal_file import VERSION
from lmx.journal_reader import Filter, UnreadableError, after, every, latest
from lmx.journal_text import as_text, moment
from tests.support.records import Kept, decided, moved, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.db"


def until(good: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not good():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def count(path: Path) -> int:
    """How many entries can be read."""
    with suppress(UnreadableError):  # it may not be there yet
        return len(latest(path, 10_000).entries)
    return 0


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """A disk that hangs: nobody else can write while this lasts."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        yield
        db.execute("ROLLBACK")


def reasons(entries: Iterator[Entry]) -> list[str]:
    return [entry.reason for entry in entries if entry.kind == "event"]


def test_what_is_told_is_read_again_in_its_order(path: Path) -> None:
    """Starts, events and decisions come back with all that a replay and people need."""
    write(path, [moved(event="", source="", target="unloaded"), moved(1, data={"now": 0.25}), decided()])
    start, event, decision = every(path)
    assert (start.kind, start.target, start.run) == ("start", "unloaded", 1)
    assert (event.kind, event.data, event.effects) == ("event", {"now": 0.25}, ["AcquireLoader"])
    assert (decision.kind, decision.event) == ("decision", "lmx.machines.crash_loop.unclean_starts")
    assert (decision.data, decision.effects) == ({"starts": [1.0, 59.0], "now": 60.0}, 2)
    assert start.seq < event.seq < decision.seq


def test_it_is_on_disk_within_a_second_without_a_stop(path: Path) -> None:
    """Nothing waits in memory for longer."""
    kept = Kept(path)
    until(path.exists)
    told = time.monotonic()
    kept.tell([moved()])
    until(lambda: count(path) == 1)
    assert time.monotonic() - told < 1.0
    kept.stop()


def test_it_is_readable_after_sigkill(path: Path) -> None:
    """Whoever dies leaves all that was told a second before."""
    script = (
        "import sys, time; from pathlib import Path; from tests.support.records import Kept, moved\n"
        "kept = Kept(Path(sys.argv[1])); kept.tell(moved(i) for i in range(1000)); print(flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, env=os.environ)
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        until(lambda: count(path) == 1000, 1.0)
        process.send_signal(signal.SIGKILL)
    assert reasons(every(path)) == [f"number {i}" for i in range(1000)]
    write(path, [moved(7)])
    assert [entry.run for entry in latest(path, 2).entries] == [1, 2]


def test_nobody_waits_for_a_disk_that_hangs_and_the_gap_is_told_where_it_is(path: Path) -> None:
    """The queue is bounded: what is beyond it is dropped, counted, and told as an entry of its own."""
    kept = Kept(path, waiting=50, retry=0.05)
    kept.tell([moved(0)])
    until(lambda: count(path) == 1)
    with locked(path):
        begun = time.monotonic()
        kept.tell(moved(i) for i in range(1, 10_001))
        assert time.monotonic() - begun < 2.0
        kept.errors.wait(lambda told: any(error and "locked" in error for error in told))
    kept.errors.wait(lambda told: told[-1] is None)
    kept.tell([moved(10_001)])
    kept.stop()
    entries = list(every(path))
    [gap] = [entry for entry in entries if entry.kind == "dropped"]
    kept_before, kept_after = entries[: entries.index(gap)], entries[entries.index(gap) + 1 :]
    assert reasons(iter(kept_before)) == [f"number {i}" for i in range(len(kept_before))]
    assert reasons(iter(kept_after)) == ["number 10001"]
    assert int(gap.event) == 10_001 - len(kept_before)
    assert len(kept_before) < 300
    assert "missing" in as_text(gap)


def test_a_damaged_file_is_moved_aside(path: Path) -> None:
    """What cannot be read does not keep lmx from writing, and is there for whoever wants to mend it."""
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1000)
    write(path, [moved()])
    assert reasons(every(path)) == ["number 0"]
    assert path.with_name("journal.db.broken").read_bytes().startswith(b"no database")


def test_a_file_that_breaks_while_it_is_written_is_moved_aside(path: Path) -> None:
    """The next records are in a new file of the same run."""
    write(path, (moved(i) for i in range(2000)))
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    write(path, [moved(1), moved(2)])
    assert reasons(every(path)) == ["number 1", "number 2"]
    assert path.with_name("journal.db.broken").exists()


def test_another_schema_is_moved_aside(path: Path) -> None:
    """A file of another lmx is neither written nor read by this one."""
    write(path, [moved()])
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(UnreadableError, match="no journal of this lmx"):
        latest(path, 1)
    write(path, [moved(5)])
    assert reasons(every(path)) == ["number 5"]


@pytest.mark.parametrize("harm", ["DROP TABLE entries", "PRAGMA user_version = 0"])
def test_a_file_without_its_tables_is_moved_aside(path: Path, harm: str) -> None:
    """No restart would mend it: a new one is begun."""
    write(path, [moved()])
    with closing(sqlite3.connect(path)) as db:
        db.execute(harm)
    write(path, [moved(5)])
    assert reasons(every(path)) == ["number 5"]
    assert path.with_name("journal.db.broken").exists()


def test_a_place_that_cannot_be_written_is_tried_again(path: Path) -> None:
    """The error is reported once, taken back when all is well, and what waited is written."""
    path.parent.write_text("a file where the folder should be")
    kept = Kept(path, retry=0.01)
    kept.tell([moved(1)])
    [error] = kept.errors.wait(bool)
    assert error is not None
    assert "cannot be written" in error
    path.parent.unlink()
    kept.errors.wait(lambda told: told[-1] is None)
    kept.stop()
    assert kept.errors.messages == [error, None]
    assert reasons(every(path)) == ["number 1"]


def test_a_stop_does_not_wait_for_a_place_that_stays_unwritable(path: Path) -> None:
    """The daemon ends whatever the disk does."""
    path.parent.write_text("a file where the folder should be")
    kept = Kept(path, retry=60.0)
    kept.tell([moved()])
    kept.errors.wait(bool)
    begun = time.monotonic()
    kept.stop()
    assert time.monotonic() - begun < 1.0


class Calendar:
    """A clock that shows a fixed date; its seconds run by themselves."""

    def __init__(self, date: float) -> None:
        self.date = date

    def time(self) -> float:
        return self.date

    def monotonic(self) -> float:
        return time.monotonic()


def test_old_entries_go(path: Path) -> None:
    """Those that are older than `days`, with their runs; the others stay."""
    write(path, (moved(i) for i in range(3000)))
    clock = Calendar(1_000_000.0 + 2500 + 86_400)
    kept = Kept(path, clock=clock, retention=Retention(days=1.0, size=256_000_000))
    until(lambda: next(every(path)).reason == "number 2500")
    kept.stop()
    assert reasons(every(path)) == [f"number {i}" for i in range(2500, 3000)]


def pages(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA page_count").fetchone()[0])


def test_a_large_file_shrinks(path: Path) -> None:
    """The oldest entries go until the file is as small as it has to be, and the disk has its space again."""
    write(path, (moved(i, reason="x" * 2000) for i in range(3000)))
    full = path.stat().st_size
    kept = Kept(path, retention=Retention(days=1e6, size=full // 3))
    until(lambda: pages(path) < full // 4096 // 2)
    kept.stop()
    assert path.stat().st_size < full // 2
    entries = list(every(path))
    assert entries[-1].seq == 3000
    assert len(entries) > 1


def test_only_its_user_may_read_it(path: Path) -> None:
    """Reasons and addresses are nobody else's business; SQLite's own files follow."""
    kept = Kept(path)
    kept.tell([moved()])
    until(lambda: count(path) == 1)
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
    kept.stop()


def test_no_text_is_too_odd_for_it(path: Path) -> None:
    """Half of a surrogate pair, as bad bytes in a name may become, is no reason to stop writing."""
    write(path, [moved(reason="a \udc80 b"), moved(actor="model:\ud800")])
    assert [entry.reason for entry in every(path)] == ["a ? b", "number 0"]


def test_the_reader_finds_what_is_asked_for(path: Path) -> None:
    """By actor, kind, run and time; the newest last; with a cursor that goes on where the page ends."""
    write(path, [moved(1), decided(), moved(2, actor="model:n"), moved(3)])
    write(path, [moved(4)])
    assert reasons(every(path, Filter(actor="model:n"))) == ["number 2"]
    assert [entry.actor for entry in every(path, Filter(kind="decision"))] == ["crash_loop"]
    assert reasons(every(path, Filter(run=2))) == ["number 4"]
    assert reasons(every(path, Filter(at_least=1_000_003.0))) == ["number 3", "number 4"]
    assert reasons(iter(latest(path, 2).entries)) == ["number 3", "number 4"]
    first = after(path, 0, 2)
    assert reasons(iter(after(path, first.cursor, 10).entries)) == ["number 2", "number 3", "number 4"]
    assert after(path, 99, 10).cursor == 99


def test_a_missing_file_is_one_sentence(path: Path) -> None:
    """No traceback for a typo."""
    with pytest.raises(UnreadableError, match="does not exist"):
        latest(path, 1)


def test_a_file_that_cannot_be_opened_is_one_sentence(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's, or no descriptor is left: SQLite says so when it connects."""
    write(path, [moved(1)])

    def refused(*_: object, **__: object) -> sqlite3.Connection:
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr(sqlite3, "connect", refused)
    with pytest.raises(UnreadableError, match="cannot be opened: unable to open database file"):
        latest(path, 1)


def test_since_is_an_age_or_a_date() -> None:
    """As people say it."""
    assert moment("90s", 1000.0) == 910.0
    assert moment("1.5h", 10_000.0) == 4600.0
    assert moment("1970-01-02T00:00+00:00", 0.0) == 86_400.0
    with pytest.raises(ValueError, match="yesterday"):
        moment("yesterday", 0.0)
