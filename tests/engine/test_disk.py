"""Computed prompts as files: found again after a restart, never wrong, never too many, never a request's problem."""

import os
import re
from pathlib import Path
from threading import Event, current_thread
from typing import Any

import numpy as np
import pytest

from lmx.engine import kv_folder
from lmx.engine.disk import DiskTier
from lmx.engine.prefix import Cold

SOON = 20.0


class Clock:
    """Seconds; each reading is one later, so that files' times differ."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


CLOCK = Clock()


def tier(folder: Path, key: str = "model a", budget: int = 10**6, floor: int | None = 0, **more: Any) -> DiskTier:
    return DiskTier(folder, key, budget, floor, CLOCK, **more)


def views(*chunks: bytes) -> list[memoryview]:
    return [memoryview(chunk) for chunk in chunks]


def save(one: DiskTier, tokens: list[int], *chunks: bytes) -> Cold:
    assert one.write(tokens, views(*chunks))
    assert one.flush(SOON)
    ((told, cold),) = one.written()
    assert told.tolist() == tokens
    return cold


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in files(folder))


# --- written, found, read --------------------------------------------------------------------------------------------


def test_a_restart_finds_what_was_written(tmp_path: Path) -> None:
    """scan gives tokens and key, the least recently used first; read gives the bytes."""
    before = tier(tmp_path)
    assert before.scan() == []
    first = save(before, [1, 2, 3], b"abc", b"", b"defg")
    second = save(before, [1, 2, 4], b"x" * 1000)
    assert first.tokens == 3
    assert first.nbytes == 0
    after = tier(tmp_path)
    assert [(tokens.tolist(), cold) for tokens, cold in after.scan()] == [([1, 2, 3], first), ([1, 2, 4], second)]
    assert (after.entries, after.nbytes) == (2, size_of(tmp_path)) == (before.entries, before.nbytes)
    assert bytes(after.read(first) or b"") == b"abcdefg"
    assert [cold for _, cold in tier(tmp_path).scan()] == [second, first]


def test_files_are_private_and_whole(tmp_path: Path) -> None:
    """0600, and no temporary file is left."""
    save(tier(tmp_path), [1, 2], b"abc")
    (path,) = files(tmp_path)
    assert path.suffix == ".kv"
    assert path.stat().st_mode & 0o777 == 0o600


def test_chunks_of_any_shape_are_written(tmp_path: Path) -> None:
    """A memoryview of floats counts by its bytes."""
    numbers = np.arange(12, dtype=np.float32).reshape(3, 4)
    one = tier(tmp_path)
    assert one.write([1, 2], [numbers.data])
    assert one.flush(SOON)
    ((_, cold),) = one.written()
    assert bytes(one.read(cold) or b"") == numbers.tobytes()


def test_models_do_not_see_each_other(tmp_path: Path) -> None:
    """Another kv_key has other files, also for the same tokens."""
    mine, other = tier(tmp_path), tier(tmp_path, "model b")
    save(mine, [1, 2], b"abc")
    assert other.scan() == []
    cold = save(other, [1, 2], b"xyz")
    assert bytes(mine.read(cold) or b"") == b"abc"
    assert bytes(other.read(cold) or b"") == b"xyz"


def test_what_is_there_is_not_written_again(tmp_path: Path) -> None:
    """wants says so before anything is copied; a declined write is counted."""
    one = tier(tmp_path)
    assert one.wants([1, 2], 3)
    save(one, [1, 2], b"abc")
    assert not one.wants([1, 2], 3)
    assert not one.write([1, 2], views(b"abc"))
    assert not one.write([1, 2, 3], [])
    assert one.declined == 2
    assert one.written() == []


# --- what is damaged or gone -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 7, 9, 30, -1])
def test_a_damaged_file_is_never_used(tmp_path: Path, at: int) -> None:
    """One wrong byte anywhere: the file is deleted and the prompt is computed again."""
    one = tier(tmp_path)
    cold = save(one, [1, 2, 3], b"abcdefg")
    (path,) = files(tmp_path)
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)
    assert one.read(cold) is None
    assert files(tmp_path) == []
    assert one.entries == 0
    assert one.errors == 1


@pytest.mark.parametrize("length", [0, 10, 45, -1])
def test_a_cut_file_is_deleted_by_the_scan(tmp_path: Path, length: int) -> None:
    """Headers say how long a file is."""
    save(tier(tmp_path), [1, 2, 3], b"abcdefg")
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    assert tier(tmp_path).scan() == []
    assert files(tmp_path) == []


def test_files_may_vanish(tmp_path: Path) -> None:
    """Another process may delete what it likes: no error, just not there."""
    one = tier(tmp_path)
    cold = save(one, [1, 2], b"abc")
    files(tmp_path)[0].unlink()
    assert one.read(cold) is None
    assert one.entries == 0
    assert one.errors == 0
    one.remove(cold)
    save(one, [1, 2], b"abc")


def test_a_payload_outlives_its_file(tmp_path: Path) -> None:
    """What was read stays readable when the file is removed."""
    one = tier(tmp_path)
    cold = save(one, [1, 2], b"abc")
    payload = one.read(cold)
    one.remove(cold)
    assert files(tmp_path) == []
    assert payload is not None
    assert bytes(payload) == b"abc"


def test_the_scan_tidies_up(tmp_path: Path) -> None:
    """Old temporary files go, young ones may be somebody's; strangers are left alone."""
    one = tier(tmp_path)
    save(one, [1, 2], b"abc")
    folder = files(tmp_path)[0].parent
    for name, age in (("old.1.part", kv_folder.ABANDONED + 60), ("young.1.part", 5.0), ("notes.txt", 10**6)):
        (folder / name).touch()
        os.utime(folder / name, (CLOCK.now - age, CLOCK.now - age))
    (tmp_path / "readme").touch()
    assert len(tier(tmp_path).scan()) == 1
    assert {path.name for path in files(tmp_path)} - {files(folder)[0].name} >= {"notes.txt", "readme", "young.1.part"}
    assert not (folder / "old.1.part").exists()


# --- not too much ----------------------------------------------------------------------------------------------------


def test_the_budget_holds_over_all_models(tmp_path: Path) -> None:
    """The least recently used go first, whose ever they are; reading is using."""
    one, other = tier(tmp_path, budget=3500), tier(tmp_path, "model b", budget=3500)
    first = save(one, [1], b"x" * 1000)
    second = save(other, [2], b"x" * 1000)
    third = save(one, [3], b"x" * 1000)
    assert one.read(first) is not None
    save(one, [4], b"x" * 1000)
    assert size_of(tmp_path) <= 3500
    assert other.read(second) is None
    assert one.read(first) is not None
    assert one.read(third) is not None
    assert [cold for _, cold in tier(tmp_path, budget=1500).scan()] == [third]


def test_what_can_never_fit_drives_nobody_out(tmp_path: Path) -> None:
    """Larger than the budget: declined, and all files stay."""
    one = tier(tmp_path, budget=2000)
    cold = save(one, [1], b"x" * 1000)
    assert not one.write([2], views(b"x" * 2001))
    assert one.write([3], views(b"x" * 1999))
    assert one.flush(SOON)
    assert one.written() == []
    assert one.declined == 2
    assert one.read(cold) is not None


def test_a_full_disk_is_not_filled_further(tmp_path: Path) -> None:
    """So many bytes stay free; nothing is deleted where that would not help."""
    save(tier(tmp_path), [1], b"x" * 1000)
    one = tier(tmp_path, floor=2**62)
    assert one.write([2], views(b"x" * 1000))
    assert one.flush(SOON)
    assert one.written() == []
    assert one.declined == 1
    assert len(files(tmp_path)) == 1


def test_the_default_floor_is_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """2 GB or 5 % stay free, whichever is more; the folder need not exist yet."""
    monkeypatch.setattr(kv_folder, "FLOOR_SHARE", 1.0)
    one = tier(tmp_path / "not" / "yet", floor=None)
    assert one.scan() == []
    assert one.write([1], views(b"abc"))
    assert one.flush(SOON)
    assert (one.declined, one.errors) == (1, 0)


# --- off the hot path ------------------------------------------------------------------------------------------------


class Gatekeeper(Clock):
    """The writer asks for the time before every file, and gets it when the event is set."""

    def __init__(self) -> None:
        super().__init__()
        self.go = Event()

    def __call__(self) -> float:
        assert current_thread().name != "kv-writer" or self.go.wait(SOON)
        return super().__call__()


def test_the_queue_is_bounded(tmp_path: Path) -> None:
    """A slow disk: what waits is memory, so that more is declined; one that is larger than the queue is taken alone."""
    clock = Gatekeeper()
    one = DiskTier(tmp_path, "model a", 10**6, 0, clock, queue=1500)
    assert one.write([1], views(b"x" * 1000))
    assert not one.write([2], views(b"x" * 1000))
    assert one.write([3], views(b"x" * 500))
    assert one.declined == 1
    assert not one.flush(0.0)
    clock.go.set()
    assert one.flush(SOON)
    assert [tokens.tolist() for tokens, _ in one.written()] == [[1], [3]]
    assert one.write([4], views(b"x" * 9000))


def test_an_error_switches_the_tier_off_for_a_while(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that cannot be written: said once, counted, tried again later; reading goes on."""
    one = tier(tmp_path)
    kept = save(one, [1], b"abc")
    blocked = tier(tmp_path, "model b")
    own = blocked._own
    own.touch()
    assert blocked.write([2], views(b"abc"))
    assert blocked.flush(SOON)
    assert not blocked.write([3], views(b"abc"))
    assert capsys.readouterr().err.count("The disk cache is off for 60 s") == 1
    assert (blocked.errors, blocked.declined) == (1, 1)
    own.unlink()
    CLOCK.now += 61
    save(blocked, [3], b"abc")
    assert bytes(one.read(kept) or b"") == b"abc"


def test_pauses_grow_while_nothing_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each error in a row doubles the pause."""
    one = tier(tmp_path)
    one._own.touch()
    for _ in range(3):
        assert one.write([2], views(b"abc"))
        assert one.flush(SOON)
        CLOCK.now += 1000
    assert re.findall(r"off for (\d+) s", capsys.readouterr().err) == ["60", "120", "240"]


def test_a_folder_that_cannot_be_read_is_no_files(tmp_path: Path) -> None:
    """scan never raises: the worker starts without."""
    file = tmp_path / "file"
    file.touch()
    assert tier(file).scan() == []
