"""One random token from logits."""

import numpy as np
from numpy.typing import NDArray

from lmx.backends.sampling.filters import Logits, survivors
from lmx.machines.types import Sampling

COLDEST = 1e-6
"""A lower temperature is no number in float32, and draws nothing else."""
BLOCK = 512
"""Summing a vocabulary by blocks first is far cheaper than one running sum over it."""


def draw(logits: Logits, sampling: Sampling, uniform: float, *, exclude: bool = False) -> int:
    """One token for `uniform` in [0, 1), by inverse distribution over the survivors in the order of their ids.

    Ids and not ranks give the order: two almost equal logits may then change places without changing the draw.
    `exclude`: XTC strikes this time.
    """
    ids, left = survivors(logits - logits.max(), sampling, exclude=exclude)
    left -= left.max()
    with np.errstate(over="ignore"):  # a tiny temperature: -inf is the right limit
        left /= max(sampling.temperature, COLDEST)
    place = _position(np.exp(left, out=left), uniform)
    return place if ids is None else int(ids[place])


def _position(weights: NDArray[np.float32], uniform: float) -> int:
    """Where the running sum of `weights` passes `uniform` of the whole: first the block, then the place in it."""
    block, rest = _crossing(np.add.reduceat(weights, np.arange(0, weights.size, BLOCK)), uniform)
    place, _ = _crossing(weights[block * BLOCK : (block + 1) * BLOCK], rest)
    return block * BLOCK + place


def _crossing(weights: NDArray[np.float32], uniform: float) -> tuple[int, float]:
    """The first index whose running sum exceeds `uniform` of the whole (its weight is never 0), and how far into it."""
    sums = np.cumsum(weights, dtype=np.float64)
    target = min(uniform * sums[-1], np.nextafter(sums[-1], 0))
    index = int(np.searchsorted(sums, target, side="right"))
    before = sums[index - 1] if index else 0.0
    return index, float((target - before) / (sums[index] - before))
