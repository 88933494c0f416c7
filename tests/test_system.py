"""The machine's memory, and what a control group leaves of it."""

import errno
from pathlib import Path

import psutil
import pytest

from lmx.system import SystemMemory

GB = 10**9


def group(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"memory.{name}").write_text(text + "\n")
    return folder


def memory(tmp_path: Path, name: str) -> SystemMemory:
    (tmp_path / "own").write_text(f"9:cpu:/old\n0::{name}\n")
    return SystemMemory(tmp_path / "root", tmp_path / "own")


def test_a_control_group_s_limit_is_the_machine(tmp_path: Path) -> None:
    """Its maximum is all there is; what is used is free again as far as it only caches files."""
    group(tmp_path / "root" / "a" / "b", max=str(GB), current="600000000", stat="anon 1\ninactive_file 100000000")
    system = memory(tmp_path, "/a/b")
    assert (system.total(), system.free()) == (GB, 500_000_000)


def test_the_tightest_group_above_counts(tmp_path: Path) -> None:
    """A limit holds for all groups below it; `max` is none."""
    group(tmp_path / "root" / "a", max=str(2 * GB), current="1900000000", stat="inactive_file 0")
    group(tmp_path / "root" / "a" / "b", max="max", current="5", stat="")
    system = memory(tmp_path, "/a/b")
    assert (system.total(), system.free()) == (2 * GB, 100_000_000)


@pytest.mark.parametrize("name", ["/", "/nowhere"])
def test_without_a_limit_it_is_the_machine_s(tmp_path: Path, name: str) -> None:
    """Also where there are no control groups at all."""
    assert memory(tmp_path, name).total() == psutil.virtual_memory().total
    assert SystemMemory(tmp_path / "root", tmp_path / "missing").total() == psutil.virtual_memory().total


def test_a_limit_that_goes_away_is_no_lack(tmp_path: Path) -> None:
    """The group was removed or its limit lifted: the machine's own memory counts, not nothing."""
    folder = group(tmp_path / "root" / "a", max=str(GB), current="999999999", stat="")
    system = memory(tmp_path, "/a")
    assert system.free() == 1
    (folder / "memory.max").write_text("max\n")
    assert system.free() > GB // 100
    assert system.total() == psutil.virtual_memory().total


def test_without_a_descriptor_it_is_what_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Linux tells by a file: when no more can be opened, no actor that asks for memory dies of that."""
    system = memory(tmp_path, "/")
    before = system.free(), system.total()

    def exhausted() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(psutil, "virtual_memory", exhausted)
    assert (system.free(), system.total()) == before
