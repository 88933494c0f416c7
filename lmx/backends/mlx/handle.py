"""Computed tokens that outlive their sequence: one cache per layer, in arrays that nobody else writes to."""

import copy
from collections.abc import Iterable, Iterator
from typing import Any

from lmx.backends.mlx.imports import CacheList, mx, tree_flatten, tree_map, trim_prompt_cache


class CacheHandle:
    """The Handle of this backend; `caches` is empty once it was given away or dropped."""

    def __init__(self, caches: list[Any], tokens: int) -> None:
        self.caches = caches
        self.tokens = tokens

    @property
    def nbytes(self) -> int:
        return sum(cache.nbytes for cache in self.caches)

    def beginning(self, tokens: int, *, whole: bool) -> list[Any]:
        """Caches of the first `tokens` tokens, to go on from. Copies share memory until one side writes."""
        caches = copy.deepcopy(self.caches)  # also of what is given away: the disk's writer may still read it
        if whole:
            self.caches = []
        if tokens < self.tokens:
            trim_prompt_cache(caches, self.tokens - tokens)
        return caches


def kept(caches: list[Any], tokens: int) -> CacheHandle:
    """A handle of a running or finished sequence's caches, without the room to grow that they have.

    Computed behind the step that is under way, which nobody waits for. To be called on the batch's stream.
    """
    caches = copy.deepcopy(caches)
    for cache in leaves(caches):
        _cut_room(cache)
    for cache in caches:
        cache.state = tree_map(_own, cache.state)
    mx.async_eval(arrays(caches))  # type: ignore[no-untyped-call]
    return CacheHandle(caches, tokens)


def leaves(caches: Iterable[Any]) -> Iterator[Any]:
    """The caches, with those inside of lists of caches."""
    for cache in caches:
        if isinstance(cache, CacheList):
            yield from leaves(cache.caches)
        else:
            yield cache


def arrays(caches: Iterable[Any]) -> list[mx.array]:
    """Every array of the caches."""
    states: Any = tree_flatten([cache.state for cache in caches])
    return [leaf for _, leaf in states if isinstance(leaf, mx.array)]


def _cut_room(cache: Any) -> None:
    """KV buffers grow by 256 tokens at a time; what is used is a view of them."""
    if getattr(cache, "keys", None) is None:
        return
    if hasattr(cache, "keys_and_values"):
        cache.keys, cache.values = cache.keys_and_values()
    elif hasattr(cache, "start_position"):
        used = cache.offset - cache.start_position
        cache.keys, cache.values = cache.keys[..., :used, :], cache.values[..., :used, :]


def _own(leaf: Any) -> Any:
    """A view would keep all that it is a part of."""
    return mx.contiguous(leaf) if isinstance(leaf, mx.array) else leaf
