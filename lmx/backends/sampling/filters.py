"""Which tokens may be drawn. Logits here have their maximum at 0."""

import math

import numpy as np
from numpy.typing import NDArray

from lmx.backends.sampling.limits import LARGEST
from lmx.machines.types import Sampling

Logits = NDArray[np.float32]
Ids = NDArray[np.intp]

FARTHEST = 1e30
"""No logit is so far below another; float32 has room for it."""
CLOSEST = 1024
"""Tokens that typical sampling sorts at first; seldom are more needed."""


def survivors(logits: Logits, sampling: Sampling, *, exclude: bool) -> tuple[Ids | None, Logits]:
    """The tokens that the filters leave, rising, None being all of them; and their logits, -inf where XTC struck.

    `exclude`: XTC strikes this time. `logits` may be changed.
    """
    floor = _floor(logits, sampling)
    ids = None if floor == -math.inf else np.flatnonzero(logits >= floor)
    left = logits if ids is None else logits[ids]
    if 0 < sampling.typical_p < 1:
        kept = np.flatnonzero(_typical(left, sampling.typical_p))
        ids, left = kept if ids is None else ids[kept], left[kept]
    if exclude:
        _strike(left, sampling.xtc_threshold)
    return ids, left


def _floor(logits: Logits, sampling: Sampling) -> float:
    """The logit below which no token may be drawn."""
    floor = -math.inf
    if sampling.top_n_sigma > 0:
        floor = -min(sampling.top_n_sigma * _deviation(logits), FARTHEST)
    if sampling.min_p > 0:
        floor = max(floor, math.log(min(sampling.min_p, 1.0)))
    if 0 < sampling.top_k < logits.size:
        rank = logits.size - sampling.top_k
        floor = max(floor, float(np.partition(logits, rank)[rank]))
    if 0 < sampling.top_p < 1:
        floor = max(floor, _nucleus_floor(logits, sampling.top_p, floor))
    return floor


def _deviation(logits: Logits) -> float:
    """The standard deviation of the logits of possible tokens."""
    possible = logits > -math.inf
    return float((logits if possible.all() else np.compress(possible, logits)).std())


def _nucleus_floor(logits: Logits, top_p: float, floor: float) -> float:
    """The smallest logit of the most likely tokens that together weigh `top_p`; those below `floor` are out anyway."""
    total = float(np.exp(logits).sum(dtype=np.float64))
    # Tokens below this bound weigh less than 1 - top_p all together: they need no sorting.
    bound = math.log((1 - top_p) * total / logits.size)
    likely = np.compress(logits >= max(floor, bound), logits)
    likely[::-1].sort()
    mass = np.exp(likely)
    above = np.cumsum(mass, dtype=np.float64) - mass
    return float(likely[np.count_nonzero(above < top_p * total) - 1])


def _typical(logits: Logits, typical_p: float) -> NDArray[np.bool_]:
    """The tokens whose surprise is closest to the expected one and that together weigh `typical_p`."""
    mass = np.exp(logits)
    total = float(mass.sum(dtype=np.float64))
    surprise = np.maximum(logits, -LARGEST)
    np.subtract(math.log(total), surprise, out=surprise)
    surprise -= np.dot(mass, surprise) / np.float32(total)
    distance = np.abs(surprise, out=surprise)
    within: NDArray[np.bool_] = distance <= _reach(distance, mass, typical_p * total)
    return within


def _reach(distance: Logits, mass: Logits, target: float) -> float:
    """The distance within which the closest tokens weigh `target`; only as many are sorted as are needed."""
    size, near = CLOSEST, np.arange(distance.size)
    while size < distance.size:
        near = np.argpartition(distance, size)[:size]
        if mass[near].sum(dtype=np.float64) >= target:
            break
        size, near = size * 8, np.arange(distance.size)
    near = near[np.argsort(distance[near])]
    ranked = mass[near]
    kept = np.count_nonzero(np.cumsum(ranked, dtype=np.float64) - ranked < target)
    return float(distance[near[kept - 1]])


def _strike(logits: Logits, threshold: float) -> None:
    """Exclude, in place, the tokens of at least `threshold` that are more likely than the last of them."""
    mass = np.exp(logits - logits.max())
    likely = np.compress(mass >= threshold * mass.sum(dtype=np.float64), logits)
    np.putmask(logits, logits > likely.min(initial=np.float32(math.inf)), -math.inf)
