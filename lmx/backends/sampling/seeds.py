"""Randomness that depends on a sequence's seed and on the index of its token only."""

import secrets
from typing import NamedTuple

import numpy as np

from lmx.machines.types import Sampling

SEED_BITS = 2**64 - 1


class Rolls(NamedTuple):
    """Two independent numbers in [0, 1): where in the distribution to draw, and whether XTC excludes."""

    draw: float
    exclude: float


def seed_of(sampling: Sampling) -> int:
    """The sequence's own 64 bits; made up when it has none."""
    return secrets.randbits(64) if sampling.seed is None else sampling.seed & SEED_BITS


def rolls(seed: int, index: int) -> Rolls:
    """Those of token `index`, the same on every backend."""
    return Rolls(*np.random.default_rng((seed, index)).random(2).tolist())
