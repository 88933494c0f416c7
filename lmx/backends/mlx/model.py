"""A loaded model, and what its caches can do: that is only known by trying them."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from lmx.backends.base import LoadError
from lmx.backends.mlx.folder import Folder
from lmx.backends.mlx.handle import leaves
from lmx.backends.mlx.imports import (
    ArraysCache,
    ChunkedKVCache,
    KVCache,
    Module,
    QuantizedKVCache,
    RotatingKVCache,
    make_prompt_cache,
    mx,
)
from lmx.backends.mlx.single_row import single_row
from lmx.machines.types import KvType, ModelSpec

BITS: dict[KvType, int] = {"q8_0": 8, "q4_0": 4}
GROUPS = (64, 32)
"""Numbers that share a scale: the larger the better, and the size of a head must be a multiple of it."""


class Quantized(NamedTuple):
    """How KV caches are held in fewer bits."""

    group: int
    bits: int


Prefix = Literal["trim", "snapshot", "none"]

READ_TOGETHER = 8
"""Prompts that are read side by side: mlx-lm's own default."""


@dataclass(frozen=True)
class Model:
    """A model whose weights are all in memory; `width` is that of its logits."""

    module: Module
    weights_bytes: int
    width: int
    batches: bool
    """Its caches can be merged; if not, one sequence runs at a time."""
    prefix: Prefix
    quantized: Quantized | None = None

    def new_cache(self) -> list[Any]:
        """The caches of one new sequence, one per layer."""
        caches: list[Any] = make_prompt_cache(self.module)
        if self.quantized is not None:
            caches = [cache.to_quantized(self.quantized.group, self.quantized.bits) for cache in caches]
        return caches if self.batches else [single_row(cache) for cache in caches]

    def prompts(self, slots: int) -> int:
        """How many prompts are read side by side: one where that would need padding inside recurrent states."""
        return min(slots, READ_TOGETHER) if self.batches and self.prefix == "trim" else 1


def probed(folder: Folder, module: Module, weights_bytes: int, spec: ModelSpec) -> Model:
    """Feed one token to two caches: shapes come without computing, and whether caches merge is only known by trying."""
    pair = [make_prompt_cache(module) for _ in range(2)]
    try:
        logits, _ = (module(mx.array([[0]]), cache=caches) for caches in pair)
    except (ValueError, RuntimeError, TypeError, AttributeError, IndexError) as error:
        raise LoadError(f"{folder.path} does not generate text with mlx-lm: {error}; choose another model") from error
    quantized = _quantized(folder, pair[0], spec)
    batches = quantized is None and all(map(_mergeable, *pair))
    context = min(spec.context, folder.context or spec.context)
    return Model(module, weights_bytes, logits.shape[-1], batches, _prefix(pair[0], context), quantized)


def _mergeable(first: Any, second: Any) -> bool:
    """CacheList has `merge` even where the caches in it have none, so a look at the attribute is not enough."""
    try:
        merged = first.merge([first, second])
        merged.filter([0])
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return False
    return True


def _prefix(caches: list[Any], context: int) -> Prefix:
    """What is_trimmable says of an almost empty cache does not hold for a window that has slid."""
    kinds = list(leaves(caches))
    if all(_trims(cache, context) for cache in kinds):
        return "trim"
    known = (KVCache, RotatingKVCache, ArraysCache, ChunkedKVCache)
    return "snapshot" if all(isinstance(cache, known) for cache in kinds) else "none"


def _trims(cache: Any, context: int) -> bool:
    """Any number of its last tokens can be taken away, as long as no sequence is longer than `context`."""
    if isinstance(cache, RotatingKVCache):
        return bool(cache.max_size > context)
    if isinstance(cache, ChunkedKVCache):
        return bool(cache.chunk_size >= context)
    return isinstance(cache, KVCache | QuantizedKVCache)


def _quantized(folder: Folder, caches: list[Any], spec: ModelSpec) -> Quantized | None:
    """`caches` hold one token, so they know their sizes."""
    if spec.kv_type == "f16":
        return None
    if any(type(cache) is not KVCache for cache in caches):
        kinds = ", ".join(sorted({type(cache).__name__ for cache in caches} - {KVCache.__name__}))
        raise LoadError(f"{folder.path} has caches that cannot be {spec.kv_type} ({kinds}); set kv_type to f16")
    sizes = {array.shape[-1] for cache in caches for array in (cache.keys, cache.values)}
    group = next((group for group in GROUPS if not any(size % group for size in sizes)), None)
    if group is None:
        reason = f"has heads of {max(sizes)} numbers, which are no multiple of {GROUPS[-1]}"
        raise LoadError(f"{folder.path} {reason}, so its KV cannot be {spec.kv_type}; set kv_type to f16")
    return Quantized(group, BITS[spec.kv_type])
