"""What the fake backend's script may do to its own worker process."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn

import msgspec

from lmx.backends.base import EngineFatal
from lmx.machines import frames

NOBODY = 1_000_000_000
"""The id of a sequence that nobody has asked for."""


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _segv() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _exit() -> NoReturn:
    os._exit(0)


def _stall() -> None:
    threading.Event().wait()


def _oom() -> NoReturn:
    raise MemoryError("the script says so")


def _fatal() -> NoReturn:
    raise EngineFatal("the script says so")


def _gpu() -> NoReturn:
    raise EngineFatal("[METAL] Command buffer execution failed: the script says so")


def _junk() -> None:
    """Three bytes that are no frame; and go on."""
    _write(b"\0\0\0\3\xc1\xc1\xc1")


def _half() -> NoReturn:
    """The beginning of a frame, and an orderly exit."""
    _write(b"\0\0\0\x09half")
    os._exit(0)


def _huge() -> None:
    """The beginning of a frame of 1 GiB; and go on."""
    _write(b"\x40\0\0\0" + b"x" * 100_000)


FAULTS: Mapping[str, Callable[[], None]] = {
    "die": _die,
    "segv": _segv,
    "exit": _exit,
    "stall": _stall,
    "oom": _oom,
    "fatal": _fatal,
    "gpu": _gpu,
    "junk": _junk,
    "half": _half,
    "huge": _huge,
}
"""By the word that asks for it."""


def babble(seqs: Iterable[int]) -> None:
    """Tell a token of each of these sequences, and of one that nobody knows."""
    told = tuple(frames.SeqStep(seq, "babble", 1, token_ids=(98,)) for seq in (*seqs, NOBODY))
    body = msgspec.msgpack.encode(frames.Step(1, told))
    _write(len(body).to_bytes(4, "big") + body)


def _write(data: bytes) -> None:
    """To the main process, past the worker's own channel: its descriptor is the worker's one argument."""
    os.write(int(sys.argv[1]), data)
