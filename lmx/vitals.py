"""Looks at the machine on a thread of its own: a disk that hangs must hold up nobody but whoever asked for it."""

import os
import queue
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import structlog

from lmx.actors.messages.vitals import Heat, Look, Vitals

PMSET_SECONDS = 5.0
ZONES = Path("/sys/class/thermal")
MOST_WAITING = 100
"""Who asks while so many wait for a disk that hangs is not answered, as they are not."""


class Physician:
    """The receiver of `Look`. All who wait when a look begins are told the same."""

    def __init__(self, folder: Path, lags: Callable[[], Mapping[str, float]]) -> None:
        """`folder` is where the state is kept."""
        self._folder = folder
        self._lags = lags
        self._asked: queue.SimpleQueue[Look] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="physician", daemon=True).start()

    def tell(self, message: Look) -> None:
        if self._asked.qsize() < MOST_WAITING:
            self._asked.put(message)

    def _run(self) -> None:
        while True:
            waiting = [self._asked.get()]
            while not self._asked.empty():
                waiting.append(self._asked.get())
            try:
                seen = self._look()
            except (OSError, psutil.Error) as error:  # no descriptor is left, for one: the next look may see more
                structlog.get_logger().warning("machine_not_seen", error=str(error))
                continue
            for look in waiting:
                look.reply_to.tell(seen)

    def _look(self) -> Vitals:
        memory = psutil.virtual_memory()
        free, writable = disk(self._folder)
        heat, detail = pmset() if sys.platform == "darwin" else zones(ZONES)
        process = psutil.Process()
        return Vitals(
            memory_total=int(memory.total),
            memory_available=int(memory.available),
            process_bytes=int(process.memory_info().rss),
            disk_free=free,
            state_writable=writable,
            heat=heat,
            heat_detail=detail,
            files_open=int(process.num_fds()),
            files_limit=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            lags={name: round(seconds, 4) for name, seconds in self._lags().items()},
        )


def disk(folder: Path) -> tuple[int | None, bool]:
    """Bytes free where `folder` is, or will be, and whether it can be written to."""
    try:
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        return shutil.disk_usage(there).free, os.access(there, os.W_OK | os.X_OK)
    except OSError:
        return None, False


def zones(folder: Path) -> tuple[Heat, str]:
    """By the kernel's thermal zones: hot when one has reached its own hot or critical point."""
    warmest: tuple[int, str] | None = None
    for zone in sorted(folder.glob("thermal_zone*")):
        degrees = _number(zone / "temp")
        if degrees is None:
            continue
        text = f"{_text(zone / 'type') or zone.name} {degrees / 1000:.0f} °C"
        if any(degrees >= point for point in _points(zone)):
            return "hot", text
        warmest = max(warmest or (degrees, text), (degrees, text))
    return ("normal", warmest[1]) if warmest else ("unknown", "The machine does not tell how warm it is.")


def _points(zone: Path) -> list[int]:
    kinds = (path for path in zone.glob("trip_point_*_type") if _text(path) in ("hot", "critical"))
    points = (_number(path.with_name(path.name.replace("_type", "_temp"))) for path in kinds)
    return [point for point in points if point]


def pmset() -> tuple[Heat, str]:
    """By macOS, which slows processors down when they are too warm."""
    try:
        command = ["/usr/bin/pmset", "-g", "therm"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PMSET_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return "unknown", f"pmset does not answer: {error}."
    return throttled(ended.stdout)


def throttled(told: str) -> tuple[Heat, str]:
    """What `pmset -g therm` says: lines such as `CPU_Speed_Limit = 80`, in percent, or notes that nothing happened."""
    limits = [line.strip() for line in told.splitlines() if "_Limit" in line and "=" in line]
    slowed = [line for line in limits if line.rpartition("=")[2].strip() not in ("100", "")]
    if slowed:
        return "hot", "; ".join(slowed)
    return ("normal", "; ".join(limits)) if limits or "No thermal warning" in told else ("unknown", told.strip()[:200])


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.lstrip("-").isdigit() else None


def _text(path: Path) -> str:
    """Empty when it cannot be read: a sensor may be there and not answer."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
