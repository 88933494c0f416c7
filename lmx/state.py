"""The folder of what lasts: one daemon holds it; runtime-state.json in it survives crashes, bit rot and full disks."""

import errno
import fcntl
import hashlib
import os
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog
from msgspec import Raw, Struct

from lmx.durable import PRIVATE, Disk, RealDisk, replace
from lmx.machines.lasting import RuntimeState

FILE = "runtime-state.json"
LOCK = "lmx.lock"
LIMIT = 4 * 1024 * 1024
"""Bytes of a file that is read; what lasts takes a hundredth of that."""


class Envelope(Struct, forbid_unknown_fields=True):
    checksum: str
    """SHA-256 of `state` as it stands here, in hexadecimal."""
    state: Raw


class Damaged(Exception):
    """A file that is there but cannot be used; the message says why."""


class StateLost(Exception):
    """No generation can be used; the message is one sentence."""


class FolderTaken(Exception):
    """Another daemon holds the folder; the message is one sentence."""


@dataclass(frozen=True)
class Found:
    """What an earlier daemon left behind."""

    state: RuntimeState
    recovered: str = ""
    """What was damaged and what became of it, as a sentence; empty = nothing was."""


class StateFile:
    """The `Store` port on a folder."""

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        self._folder = folder
        self._disk = disk if disk is not None else RealDisk()
        self._path = folder / FILE
        self._previous = folder / (FILE + ".1")

    def save(self, state: RuntimeState) -> None:
        """Raises OSError; one of the generations is whole all the same."""
        make(self._folder)
        replace(self._disk, self._path, encode(state), self._previous)

    def read(self, *, strict: bool = False) -> Found:
        """The latest generation that is whole; an empty state when none is.

        What is damaged is moved aside, if it can be. `strict`: when nothing whole is left it stays: StateLost.
        """
        damage: dict[Path, str] = {}
        state = None
        for path in (self._path, self._previous):
            try:
                state = state or decode(path)
            except Damaged as error:
                damage[path] = str(error)
        if not damage:
            return Found(state or RuntimeState())
        what = " and ".join(f"{path} is damaged ({why})" for path, why in damage.items())
        if state is None and strict:
            raise StateLost(f"{what}: put a copy back, move it away, or set strict_state to false.")
        moved = [move_aside(path) for path in damage]
        where = "moved aside" if all(moved) else "it cannot be moved aside"
        rest = "its previous generation is used" if state is not None else "lmx starts without what it remembered"
        return Found(state or RuntimeState(), f"{what}: {where}, {rest}.")


class Lock:
    """Held until `release` or the end of the process, however that comes."""

    def __init__(self, folder: Path) -> None:
        """Raises FolderTaken, or OSError when the folder cannot be written."""
        make(folder)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(folder / LOCK, flags, PRIVATE)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(OSError):  # a full disk: nobody learns the pid, but the folder is ours
                os.ftruncate(self._fd, 0)
                os.pwrite(self._fd, str(os.getpid()).encode(), 0)
        except BlockingIOError:
            owner = os.pread(self._fd, 20, 0).decode(errors="replace")
            self.release()
            what = f"{folder} is in use by another lmx (pid {owner or 'unknown'})"
            raise FolderTaken(f"{what}: stop that one, or give this one a state_dir of its own.") from None
        except OSError:
            self.release()
            raise

    def release(self) -> None:
        os.close(self._fd)


def make(folder: Path) -> None:
    """Have the folder, for this user alone when it is new. Raises OSError."""
    if folder.parts and folder.parts[0].startswith("~"):
        raise FileNotFoundError(errno.ENOENT, "this user has no home folder", str(folder))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def encode(state: RuntimeState) -> bytes:
    content = msgspec.json.encode(state)
    return msgspec.json.encode(Envelope(hashlib.sha256(content).hexdigest(), Raw(content)))


def decode(path: Path) -> RuntimeState | None:
    """None when there is no such file. Raises Damaged."""
    try:
        envelope = msgspec.json.decode(read_regular(path), type=Envelope)
        content = bytes(envelope.state)
        if hashlib.sha256(content).hexdigest() != envelope.checksum:
            raise Damaged("its checksum is wrong")
        return msgspec.json.decode(content, type=RuntimeState)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Damaged("it is a link" if error.errno == errno.ELOOP else error.strerror or repr(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(str(error)) from error


def read_regular(path: Path) -> bytes:
    """Of a file that is neither link, folder nor pipe, and no larger than LIMIT. Raises OSError and Damaged."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise Damaged("it is no regular file")
        if status.st_size > LIMIT:
            raise Damaged(f"it has {status.st_size} bytes")
        content = bytearray()
        while len(content) < LIMIT and (part := os.read(fd, LIMIT - len(content))):
            content += part
        return bytes(content)
    finally:
        os.close(fd)


def move_aside(path: Path) -> bool:
    """To `NAME.bad-TIME` (unix time, milliseconds) beside it; False: in a folder that cannot be written it stays."""
    try:
        path.rename(path.with_name(f"{path.name}.bad-{time.time_ns() // 1_000_000}"))
    except OSError as error:
        structlog.get_logger().warning("state_not_moved", path=str(path), error=str(error))
        return False
    return True
