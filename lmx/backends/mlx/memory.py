"""MLX's memory: its limits, which belong to the whole process, and its numbers."""

from typing import Any

from lmx.backends.base import LoadError
from lmx.backends.mlx.imports import mx
from lmx.machines.frames import Memory
from lmx.machines.types import ModelSpec


class Limits:
    """Those that a model's settings ask for, and those that were there before."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, int]] = []

    def apply(self, spec: ModelSpec) -> None:
        """Raises LoadError for a limit that this machine cannot have."""
        if spec.mlx_memory_limit:
            self._set(mx.set_memory_limit, spec.mlx_memory_limit)
        if spec.mlx_cache_limit:
            self._set(mx.set_cache_limit, spec.mlx_cache_limit)
            own = self._before[-1][1]
            mx.set_cache_limit(min(own, spec.mlx_cache_limit))
        if spec.mlx_wired_limit:
            self._set(mx.set_wired_limit, spec.mlx_wired_limit)

    def restore(self) -> None:
        """Put back what was before."""
        while self._before:
            change, before = self._before.pop()
            change(before)

    def _set(self, change: Any, value: int) -> None:
        try:
            self._before.append((change, change(value)))
        except (ValueError, RuntimeError, OverflowError) as error:
            name = f"mlx_{change.__name__.removeprefix('set_')}"
            raise LoadError(f"{name} cannot be {value}: {error}; set it to 0 for the library's own") from error


def numbers(weights: int, kv: int) -> Memory:
    return Memory(
        weights=weights,
        kv=kv,
        device_active=mx.get_active_memory(),
        device_peak=mx.get_peak_memory(),
        device_cache=mx.get_cache_memory(),
    )
