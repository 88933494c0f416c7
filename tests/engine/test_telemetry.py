"""The numbers of one engine, and what its process costs."""

import os
import sys
from dataclasses import dataclass

import numpy as np
import psutil
import pytest

from lmx.backends.base import Stats
from lmx.engine.memory import ProcessMemory, TaskVmInfo, process_bytes, pss
from lmx.engine.telemetry import Kept, Telemetry, whole
from lmx.machines import frames

ROLLUP = (
    "5609b1154000-7ffd0e0fb000 ---p 00000000 00:00 0   [rollup]\nRss:    1772 kB\nPss:     327 kB\nPss_Dirty: 112 kB\n"
)


@dataclass
class Counted:
    reused: int = 30
    computed: int = 70
    chunk: int = 512


def test_a_frame_has_the_numbers_of_all() -> None:
    """Those of the backend, of the known prompts and of the engine are told in one."""
    stats = Stats(2, 40, frames.Memory(weights=100, kv=20, device_active=5), drafted=9, accepted=4, speculating=True)
    frame = Telemetry(lambda: stats, lambda: Kept(3, 50, 2, 70), Counted()).read(0.0)
    assert (frame.kv_tokens, frame.reused_tokens, frame.computed_tokens, frame.chunk) == (40, 30, 70, 512)
    assert (frame.drafted, frame.accepted, frame.speculating) == (9, 4, True)
    assert (frame.cache_entries, frame.disk_entries, frame.disk_bytes) == (3, 2, 70)
    memory = frame.memory
    assert (memory.weights, memory.kv, memory.prefix_cache, memory.device_active) == (100, 20, 50, 5)
    assert memory.transient == memory.process - 170


def test_it_is_due_once_a_second() -> None:
    """A frame at the end of the work starts the second again."""
    telemetry = Telemetry(lambda: Stats(0, 0), Kept, Counted())
    assert telemetry.due(5.0)
    telemetry.read(5.0)
    assert not telemetry.due(5.9)
    assert telemetry.due(6.0)


def test_what_is_left_over_is_never_below_nothing() -> None:
    """Weights in a GPU's memory are not in the process's."""
    assert whole(frames.Memory(weights=1000), 10, 500).transient == 0


def test_memory_that_is_used_shows() -> None:
    """100 MB more in this process are 100 MB more in its number."""
    before = process_bytes()
    block = np.ones(100_000_000, np.uint8)
    grown = process_bytes() - before
    assert block[0] == 1
    assert 90_000_000 < grown < 120_000_000


def test_the_number_is_that_of_the_system() -> None:
    """Not far from RSS for a process that shares little."""
    assert 0.3 < process_bytes() / psutil.Process(os.getpid()).memory_info().rss <= 1.05


def test_asking_is_rare_where_it_is_slow() -> None:
    """Within a moment the answer is the one of before."""
    memory = ProcessMemory()
    first = memory.bytes(0.0)
    block = np.ones(50_000_000, np.uint8)
    assert memory.bytes(1e-6) == first
    assert memory.bytes(3600.0) > first + 40_000_000
    assert block[0] == 1


def test_pss_is_read() -> None:
    """In bytes; a file without it is an error that falls back to RSS."""
    assert pss(ROLLUP) == 327 * 1024
    with pytest.raises(ValueError, match="no Pss"):
        pss("Rss: 5 kB")


def test_the_struct_of_macos_has_its_layout() -> None:
    """phys_footprint is the 19th field of mach/task_info.h's task_vm_info, without padding."""
    assert TaskVmInfo.phys_footprint.offset == 144


@pytest.mark.skipif(sys.platform != "darwin", reason="macOS only")
def test_footprint_on_macos() -> None:
    """A Python process takes some megabytes."""
    assert process_bytes() > 5_000_000
