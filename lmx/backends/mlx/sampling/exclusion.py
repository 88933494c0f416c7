"""Which tokens a sequence may not have at all."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmx.backends.base import Mask, SeqSpec
from lmx.backends.mlx.imports import mx
from lmx.backends.sampling.faults import ConstraintFault

WORD = 32


class Disobeyed(ConstraintFault):
    """The token before this one is none that the mask allowed: nothing allowed was possible."""


class Masked:
    """Leaves what the constraint allows. It waits for the token before, which the constraint has to know."""

    def __init__(self, mask: Mask, stop_ids: frozenset[int]) -> None:
        self._mask = mask
        self._stop_ids = stop_ids
        self._words: NDArray[np.uint32] | None = None

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        """`tokens` are the prompt at the first call, and one more at each later one. Raises ConstraintFault."""
        if self._words is not None and self._ended(tokens, self._words):
            return logits
        size = logits.shape[-1]
        allowed = self._mask.allowed()[: -(-size // WORD)]
        if fault := self._mask.fault:
            raise ConstraintFault(fault)
        if not allowed.any():
            raise ConstraintFault("the constraint leaves nothing")
        self._words = np.zeros(-(-size // WORD), np.uint32)
        self._words[: allowed.size] = allowed
        bits = (mx.array(self._words)[:, None] >> mx.arange(WORD, dtype=mx.uint32)) & 1
        return mx.where(bits.reshape(1, -1)[:, :size] > 0, logits.astype(mx.float32), -math.inf)

    def _ended(self, tokens: mx.array, words: NDArray[np.uint32]) -> bool:
        """Tell the constraint of the latest token; after a stop token nothing follows."""
        token: Any = tokens[-1].item()
        if not words[token // WORD] >> np.uint32(token % WORD) & 1:
            raise Disobeyed("the constraint leaves nothing that is possible")
        self._mask.accept(token)
        return token in self._stop_ids


class MinTokens:
    """No stop token before `min_tokens`, unless nothing else is possible."""

    def __init__(self, spec: SeqSpec) -> None:
        self._left = max(0, spec.min_tokens - spec.written)
        self._stop = mx.array(sorted(spec.stop_ids))

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        if self._left == 0:
            return logits
        self._left -= 1
        logits = logits.astype(mx.float32)
        without = logits.at[:, self._stop].add(-math.inf)
        return mx.where(without.max(axis=-1, keepdims=True) == -math.inf, logits, without)
