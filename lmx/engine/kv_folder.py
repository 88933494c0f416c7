"""The folder that the files of all models share: what is in it, and making room in it."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lmx.engine.kv_file import SUFFIX, TEMPORARY

FLOOR, FLOOR_SHARE = 2_000_000_000, 0.05
ABANDONED = 600.0
"""Seconds after which a temporary file is nobody's any more."""


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())


@dataclass(frozen=True)
class File:
    path: Path
    size: int
    used: float


class Folder:
    """Files may vanish at any time: other processes use it too."""

    def __init__(self, path: Path, budget: int, floor: int | None, clock: Callable[[], float]) -> None:
        """`floor`: bytes of the disk that stay free; None = 2 GB or 5 %, whichever is more."""
        self._path = path
        self.budget = budget
        self._floor = floor
        self._clock = clock

    def files(self) -> list[File]:
        """Those of all models, the least recently used first."""
        return sorted(self._listed(SUFFIX), key=lambda file: file.used)

    def tidy(self) -> None:
        """Delete what was left half-written, and what no longer fits."""
        for file in self._listed(TEMPORARY):
            if self._clock() - file.used > ABANDONED:
                file.path.unlink(missing_ok=True)
        self.make_room(0)

    def make_room(self, size: int) -> list[Path] | None:
        """Delete the oldest files until `size` more bytes fit budget and disk; None, and nothing is, if they cannot."""
        files = self.files()
        total = sum(file.size for file in files)
        disk = shutil.disk_usage(_existing(self._path))
        floor = max(FLOOR, int(FLOOR_SHARE * disk.total)) if self._floor is None else self._floor
        excess = max(total + size - self.budget, size + floor - disk.free)
        if size and (size > self.budget or excess > total):
            return None
        deleted = []
        for file in files:
            if excess <= 0:
                break
            file.path.unlink(missing_ok=True)
            excess -= file.size
            deleted.append(file.path)
        return deleted

    def _listed(self, suffix: str) -> list[File]:
        found = []
        for model in _entries(self._path):
            for entry in _entries(Path(model.path)):
                stat = _stat(entry) if entry.name.endswith(suffix) else None
                if stat is not None:
                    found.append(File(Path(entry.path), stat.st_size, stat.st_mtime))
        return found


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _stat(entry: "os.DirEntry[str]") -> os.stat_result | None:
    try:
        return entry.stat()
    except FileNotFoundError:
        return None
