"""DRY on the device: `lmx.backends.sampling.dry` says what it means."""

import numpy as np

from lmx.backends.base import SeqSpec
from lmx.backends.mlx.imports import mx
from lmx.backends.sampling.dry import matches
from lmx.backends.sampling.limits import LARGEST, bounded_factor


class Dry:
    """How well the end of one sequence matches what came before each of its places; the prompt is matched here."""

    def __init__(self, spec: SeqSpec) -> None:
        sampling = spec.sampling
        self._multiplier, self._base = min(sampling.dry_multiplier, LARGEST), bounded_factor(sampling.dry_base)
        self._allowed, self._last = sampling.dry_allowed_length, sampling.dry_penalty_last_n
        self._breakers = spec.breakers
        self._breaks: mx.array | None = None
        self._lengths = mx.array(matches(np.asarray(spec.prompt, np.int32), spec.breakers))

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        """`tokens` are the prompt at the first call, and one more at each later one."""
        if self._breaks is None:
            self._breaks = _table(self._breakers, logits.shape[-1])
        else:
            grown = mx.pad(self._lengths, (1, 0)) + 1
            matching = (tokens[:-1] == tokens[-1:]) & ~self._breaks[tokens[-1:]]
            self._lengths = mx.where(matching, grown, 0)
        if tokens.size == 1:
            return logits
        return logits.astype(mx.float32) - self._charges(self._longest(tokens, self._breaks))

    def _longest(self, tokens: mx.array, breaks: mx.array) -> mx.array:
        """For each token of the vocabulary the longest match that it would continue; -1 = it continues none."""
        start = max(tokens.size - self._last, 0) if self._last > 0 else 0
        followers = tokens[start + 1 :]
        lengths = mx.minimum(self._lengths[start:], mx.arange(1, followers.size + 1))
        lengths = mx.where((lengths >= self._allowed) & ~breaks[followers], lengths, -1)
        return mx.full(breaks.shape, -1, mx.int32).at[followers].maximum(lengths.astype(mx.int32))

    def _charges(self, longest: mx.array) -> mx.array:
        grown = mx.power(mx.array(self._base, mx.float32), mx.maximum(longest - self._allowed, 0).astype(mx.float32))
        charges = mx.minimum(mx.minimum(grown, LARGEST) * self._multiplier, LARGEST)
        return mx.where(longest >= max(self._allowed, 0), charges, 0.0)


def _table(ids: frozenset[int], size: int) -> mx.array:
    """True at each of `ids`."""
    table = np.zeros(size, np.bool_)
    table[[token for token in ids if token < size]] = True
    return mx.array(table)
