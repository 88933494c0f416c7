"""Caches that mlx-lm cannot batch, made fit for a batch of one."""

import functools
from collections.abc import Sequence
from typing import Any


class SingleRow:
    """Mixed into a cache class: what BatchGenerator asks of a batched cache, for the only row there ever is."""

    def merge(self, caches: Sequence[Any]) -> Any:
        (only,) = caches
        return only

    def filter(self, keep: Sequence[int]) -> None:
        """An empty batch drops its caches, so `keep` is always [0]."""

    def extract(self, index: int) -> Any:
        return self


def single_row(cache: Any) -> Any:
    """`cache` itself, of a class that can also do what SingleRow does."""
    cache.__class__ = _with_single_row(type(cache))  # type: ignore[arg-type]  # a class is hashable
    return cache


@functools.cache
def _with_single_row(kind: type[Any]) -> type[Any]:
    return type(f"SingleRow{kind.__name__}", (SingleRow, kind), {})
