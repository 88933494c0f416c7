"""A disk that fails, tears and loses power: what a file system may do to whoever did not wait for fsync."""

import errno
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Literal

SECTOR = 512
Mode = Literal["never", "error", "errors", "crash", "torn"]
"""The n-th operation fails once, it and all later ones fail, or the power goes before it, or in the middle of it."""


class PowerLoss(BaseException):
    """Nothing of the process goes on."""


@dataclass
class Inode:
    content: bytearray = field(default_factory=bytearray)
    durable: bytes = b""

    def survivor(self, random: Random) -> bytes:
        """What of the content is there after a power loss: each sector that was not synced may be."""
        if bytes(self.content) == self.durable:
            return self.durable
        length = random.choice([len(self.durable), random.randint(0, len(self.content)), len(self.content)])
        parts = []
        for at in range(0, length, SECTOR):
            old, new = self.durable[at : at + SECTOR], bytes(self.content[at : at + SECTOR])
            parts.append(random.choice([new, old.ljust(len(new), b"\0"), bytes(len(new))]))
        return b"".join(parts)[:length]


@dataclass
class FlakyDisk:
    """The `Disk` port in memory. `operations` counts; with `mode` the one number `fail_at` (from 1) goes wrong."""

    mode: Mode = "never"
    fail_at: int = 0
    operations: int = 0
    _names: dict[str, Inode] = field(default_factory=dict)
    _durable_names: dict[str, Inode] = field(default_factory=dict)
    _moves: list[dict[str, Inode | None]] = field(default_factory=list)
    """Changes of names that were not synced yet; each happens whole or not at all."""
    _open: dict[int, Inode] = field(default_factory=dict)

    def remove(self, path: Path) -> None:
        self._count()
        self._existing(path)
        self._change({path.name: None})

    def create(self, path: Path) -> int:
        self._count()
        if path.name in self._names:
            raise FileExistsError(errno.EEXIST, "exists", str(path))
        inode = Inode()
        self._change({path.name: inode})
        fd = 100 + self.operations
        self._open[fd] = inode
        return fd

    def write(self, fd: int, data: memoryview) -> int:
        taken = min(len(data), max(SECTOR, len(data) * 2 // 3))  # a write may take less than it was given
        torn = self.mode == "torn" and self.operations + 1 == self.fail_at
        if torn:
            self._open[fd].content += data[: taken // 2]
        self._count()
        self._open[fd].content += data[:taken]
        return taken

    def fsync(self, fd: int) -> None:
        self._count()
        self._open[fd].durable = bytes(self._open[fd].content)

    def close(self, fd: int) -> None:
        self._open.pop(fd)
        self._count()

    def rename(self, source: Path, target: Path) -> None:
        self._count()
        self._change({target.name: self._existing(source), source.name: None})

    def fsync_folder(self, folder: Path) -> None:
        self._count()
        self._durable_names = dict(self._names)
        self._moves.clear()

    def show(self, folder: Path) -> None:
        """Put into `folder` what the running system sees."""
        self._fill(folder, {name: bytes(inode.content) for name, inode in self._names.items()})

    def lose_power(self, folder: Path, random: Random) -> None:
        """Put into `folder` what may be there after the power was lost now."""
        names = dict(self._durable_names)
        for move in self._moves:
            if random.random() < 0.5:
                continue
            for name, inode in move.items():
                if inode is None:
                    names.pop(name, None)
                else:
                    names[name] = inode
        self._fill(folder, {name: inode.survivor(random) for name, inode in names.items()})

    def _fill(self, folder: Path, files: dict[str, bytes]) -> None:
        for old in folder.iterdir():
            old.unlink()
        for name, content in files.items():
            (folder / name).write_bytes(content)

    def _change(self, move: dict[str, Inode | None]) -> None:
        self._moves.append(move)
        for name, inode in move.items():
            if inode is None:
                self._names.pop(name)
            else:
                self._names[name] = inode

    def _existing(self, path: Path) -> Inode:
        if path.name not in self._names:
            raise FileNotFoundError(errno.ENOENT, "does not exist", str(path))
        return self._names[path.name]

    def _count(self) -> None:
        self.operations += 1
        if self.mode in ("crash", "torn") and self.operations == self.fail_at:
            raise PowerLoss
        once = self.mode == "error" and self.operations == self.fail_at
        if once or (self.mode == "errors" and self.operations >= self.fail_at):
            raise OSError(errno.ENOSPC, "No space left on device")
