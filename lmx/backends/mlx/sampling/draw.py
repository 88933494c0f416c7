"""Random tokens from log-probabilities, on the device."""

import hashlib
import struct
from typing import Final

from lmx.backends.mlx.imports import mx
from lmx.backends.mlx.sampling.filters import filtered
from lmx.backends.sampling.seeds import rolls, seed_of
from lmx.machines.types import Sampling

LOWEST_TEMPERATURE: Final = 1e-6
"""Lower ones draw as this one does; float32 has no room for their inverse."""


class Draw:
    """One random token per call; a draw depends on the logits and (seed, how many were drawn before) only."""

    def __init__(self, sampling: Sampling, index: int = 0) -> None:
        """`index` is that of the first draw."""
        self._sampling = sampling
        self._seed = seed_of(sampling)
        self._index = index

    def __call__(self, logprobs: mx.array) -> mx.array:
        index, sampling = self._index, self._sampling
        self._index += 1
        exclude = sampling.xtc_probability > 0 and rolls(self._seed, index).exclude < sampling.xtc_probability
        left = filtered(logprobs.astype(mx.float32), sampling, exclude=exclude)
        best = left.max(axis=-1, keepdims=True)  # at 0, so that a low temperature leaves it there
        key = mx.random.key(_mixed(self._seed, index))
        return mx.random.categorical((left - best) / max(sampling.temperature, LOWEST_TEMPERATURE), key=key)


def _mixed(seed: int, index: int) -> int:
    """A key of its own for every pair; neighbouring pairs have nothing in common."""
    digest = hashlib.blake2b(struct.pack("<QQ", seed, index), digest_size=8).digest()
    return int.from_bytes(digest, "little")
