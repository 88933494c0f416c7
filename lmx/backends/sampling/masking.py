"""Which tokens a sequence may not have at all."""

import math
from collections.abc import Iterable

import numpy as np

from lmx.backends.base import Mask, SeqSpec
from lmx.backends.sampling.faults import ConstraintFault
from lmx.backends.sampling.filters import Logits
from lmx.backends.sampling.limits import bounded

_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
ADDENDS = np.where(_BITS == 1, 0, -math.inf).astype(np.float32)
"""What the 8 tokens of each possible byte of a mask get added: far faster than a choice for each token."""


class Bias:
    """The sequence's own constants, and the model's: `banned` tokens are out whatever their bias."""

    def __init__(self, bias: dict[int, float], banned: Iterable[int]) -> None:
        merged = bias | dict.fromkeys(banned, -math.inf)
        self._ids = np.fromiter(merged.keys(), np.intp, len(merged))
        self._values = np.fromiter(map(bounded, merged.values()), np.float32, len(merged))

    def __bool__(self) -> bool:
        return bool(self._ids.size)

    def apply(self, logits: Logits) -> None:
        """Change `logits` in place."""
        logits[self._ids] += self._values


class Exclusion:
    """The constraint's mask, and the stop tokens before `min_tokens`."""

    def __init__(self, spec: SeqSpec) -> None:
        self._mask = spec.mask
        self._min_tokens = spec.min_tokens
        self._stop = np.fromiter(spec.stop_ids, np.intp, len(spec.stop_ids))

    def __bool__(self) -> bool:
        return self._mask is not None or self._min_tokens > 0

    def apply(self, logits: Logits, index: int) -> None:
        """Change `logits` in place, for token `index`. Raises ConstraintFault."""
        if self._mask is not None:
            _apply_mask(logits, self._mask)
        if index < self._min_tokens and self._stop.size:
            before = logits[self._stop]
            logits[self._stop] = -math.inf
            if logits.max() == -math.inf:
                logits[self._stop] = before


def _apply_mask(logits: Logits, mask: Mask) -> None:
    allowed = mask.allowed().view(np.uint8)
    if fault := mask.fault:
        raise ConstraintFault(fault)
    addends = ADDENDS.take(allowed, axis=0).reshape(-1)
    covered = min(addends.size, logits.size)
    logits[:covered] += addends[:covered]
    logits[covered:] = -math.inf
