"""Replaces a file so that a crash at any point leaves the old content or the new one, never neither."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol

PRIVATE = 0o600


class Disk(Protocol):
    """The system calls of a replacement; each raises OSError. Tests have one that fails, tears and crashes."""

    def remove(self, path: Path) -> None: ...

    def create(self, path: Path) -> int:
        """A new file of the user's own, open for writing; fails when something is there, be it a link."""
        ...

    def write(self, fd: int, data: memoryview) -> int: ...

    def fsync(self, fd: int) -> None:
        """The content is on the medium when this returns."""
        ...

    def close(self, fd: int) -> None: ...

    def rename(self, source: Path, target: Path) -> None: ...

    def fsync_folder(self, folder: Path) -> None:
        """The names are on the medium when this returns."""
        ...


class RealDisk:
    def remove(self, path: Path) -> None:
        path.unlink()

    def create(self, path: Path) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(path, flags, PRIVATE)
        os.fchmod(fd, PRIVATE)  # a strict umask would have it unreadable for us too
        return fd

    def write(self, fd: int, data: memoryview) -> int:
        return os.write(fd, data)

    def fsync(self, fd: int) -> None:
        """On macOS fsync leaves the content in the drive's cache, and only F_FULLFSYNC does not."""
        if hasattr(fcntl, "F_FULLFSYNC"):
            with suppress(OSError):  # network and foreign file systems do not have it
                fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
                return
        os.fsync(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def rename(self, source: Path, target: Path) -> None:
        source.rename(target)

    def fsync_folder(self, folder: Path) -> None:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def replace(disk: Disk, path: Path, data: bytes, previous: Path) -> None:
    """Write `data` to `path`; what was there is at `previous` afterwards. Raises OSError, and may be tried again.

    At every moment one of the two is whole: the old content is renamed only when the new one is on the medium.
    """
    fresh = path.with_name(path.name + ".new")
    with suppress(FileNotFoundError):
        disk.remove(fresh)
    _write(disk, fresh, data)
    with suppress(FileNotFoundError):
        disk.rename(path, previous)
    disk.rename(fresh, path)
    disk.fsync_folder(path.parent)


def _write(disk: Disk, path: Path, data: bytes) -> None:
    fd = disk.create(path)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[disk.write(fd, rest) :]
        disk.fsync(fd)
    finally:
        disk.close(fd)
