"""What this process costs the machine: the number that the system itself would tell a user."""

import ctypes
import sys
import time
from pathlib import Path
from typing import Any

import psutil

ROLLUP = Path("/proc/self/smaps_rollup")
DESCRIPTORS = Path("/proc/self/fd")
TASK_VM_INFO = 22
SHARE = 0.005
"""Of the time, at most, is spent on asking: Linux walks the pages of all that is mapped."""


class ProcessMemory:
    """Bytes of this process: PSS on Linux, phys_footprint on macOS (as in Activity Monitor), RSS elsewhere."""

    def __init__(self) -> None:
        self._bytes = 0
        self._again = 0.0

    def bytes(self, now: float) -> int:
        """`now` is monotonic; the answer of a little earlier where asking was slow."""
        if now >= self._again:
            began = time.perf_counter()
            self._bytes = process_bytes()
            self._again = now + (time.perf_counter() - began) / SHARE
        return self._bytes


def process_bytes() -> int:
    """As the system tells it now."""
    if sys.platform == "darwin":
        return _footprint()
    try:
        return pss(ROLLUP.read_text(encoding="ascii"))
    except (OSError, ValueError):  # no Linux, an old one, or one that keeps it to itself
        return int(psutil.Process().memory_info().rss)


def pss(rollup: str) -> int:
    """Proportional set size: pages that several processes share are counted in parts. Raises ValueError."""
    for line in rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError("no Pss in smaps_rollup")


def open_files() -> int:
    """Of this process; 0 where the system does not tell cheaply."""
    try:
        return sum(1 for _ in DESCRIPTORS.iterdir())
    except OSError:
        return 0


class TaskVmInfo(ctypes.Structure):
    """task_vm_info of mach/task_info.h, up to phys_footprint."""

    _pack_ = 4
    _fields_ = (
        ("virtual_size", ctypes.c_uint64),
        ("region_count", ctypes.c_int32),
        ("page_size", ctypes.c_int32),
        ("resident_and_others", ctypes.c_uint64 * 16),
        ("phys_footprint", ctypes.c_uint64),
    )


def _footprint() -> int:
    system: Any = ctypes.CDLL(None)
    myself = ctypes.c_uint32.in_dll(system, "mach_task_self_")
    info = TaskVmInfo()
    count = ctypes.c_uint32(ctypes.sizeof(info) // ctypes.sizeof(ctypes.c_uint32))
    if system.task_info(myself, TASK_VM_INFO, ctypes.byref(info), ctypes.byref(count)):
        return int(psutil.Process().memory_info().rss)
    return int(info.phys_footprint)
