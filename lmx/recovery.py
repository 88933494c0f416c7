"""What an earlier daemon left behind: read, and its folder taken, before anything is started."""

import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from lmx.machines.lasting import RuntimeState
from lmx.state import Lock, StateFile

PANICS = Path("/Library/Logs/DiagnosticReports")


@dataclass(frozen=True)
class Past:
    state: RuntimeState
    store: StateFile
    recovered: str = ""
    """What of it was damaged, as a sentence; empty = nothing was."""
    panic: float | None = None
    """Unix time of the machine's newest kernel panic that is known."""
    lock: Lock | None = None
    """None: the folder cannot be written. lmx serves all the same and forgets."""


def recover(folder: Path, *, strict: bool = False, panics: Path = PANICS) -> Past:
    """Take the folder and read it. Raises FolderTaken and, when `strict`, StateLost."""
    try:
        lock = Lock(folder)
    except OSError as error:
        structlog.get_logger().warning("state_dir_unusable", folder=str(folder), error=str(error))
        lock = None
    store = StateFile(folder)
    found = store.read(strict=strict)
    panic = newest_panic(panics) if sys.platform == "darwin" else None
    return Past(found.state, store, found.recovered, panic, lock)


def newest_panic(folder: Path) -> float | None:
    """Unix time of the newest kernel panic report that macOS has written there; None when there is none."""
    times = []
    with suppress(OSError):  # not everybody may look
        for report in folder.glob("*.panic"):
            with suppress(OSError):  # it was tidied up meanwhile
                times.append(report.stat().st_mtime)
    return max(times, default=None)
