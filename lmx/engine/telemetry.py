"""How the engine does, in one frame a second at most."""

import threading
from collections.abc import Callable
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from lmx.backends.base import Stats
from lmx.engine.memory import ProcessMemory, open_files
from lmx.machines import frames

SECONDS = 1.0
"""Between two frames of an engine that works."""


class Kept(NamedTuple):
    """Known prompts, in memory and on disk."""

    entries: int = 0
    nbytes: int = 0
    disk_entries: int = 0
    disk_bytes: int = 0


class Counts(Protocol):
    """What the engine counts from its start."""

    @property
    def reused(self) -> int: ...

    @property
    def computed(self) -> int: ...

    @property
    def chunk(self) -> int: ...


class Telemetry:
    """Reads the numbers of one engine; used by its thread."""

    def __init__(self, stats: Callable[[], Stats], kept: Callable[[], Kept], counts: Counts) -> None:
        self._stats = stats
        self._kept = kept
        self._counts = counts
        self._process = ProcessMemory()
        self._next = 0.0

    def due(self, now: float) -> bool:
        """Whether a second has passed since the last frame. `now` is monotonic."""
        return now >= self._next

    def read(self, now: float) -> frames.Telemetry:
        """The frame for now; also when none is due, as at the end of the work."""
        self._next = now + SECONDS
        stats, kept = self._stats(), self._kept()
        return frames.Telemetry(
            memory=whole(stats.memory, kept.nbytes, self._process.bytes(now)),
            kv_tokens=stats.kv_used,
            cache_entries=kept.entries,
            disk_bytes=kept.disk_bytes,
            disk_entries=kept.disk_entries,
            reused_tokens=self._counts.reused,
            computed_tokens=self._counts.computed,
            drafted=stats.drafted,
            accepted=stats.accepted,
            speculating=stats.speculating,
            chunk=self._counts.chunk,
            handles=open_files(),
            threads=threading.active_count(),
        )


def whole(memory: frames.Memory, prefix_cache: int, process: int) -> frames.Memory:
    """The backend's numbers with those that only the engine knows."""
    rest = process - memory.weights - memory.kv - prefix_cache
    return replace(memory, prefix_cache=prefix_cache, process=process, transient=max(0, rest))
