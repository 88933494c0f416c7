"""DRY ("don't repeat yourself"): a penalty on the token that would continue a repetition, growing with its length."""

import math
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from lmx.backends.sampling.filters import Logits
from lmx.backends.sampling.limits import LARGEST, bounded_factor
from lmx.machines.types import Sampling

Numbers = NDArray[np.int32]


def dry_wanted(sampling: Sampling) -> bool:
    return sampling.dry_multiplier > 0 and sampling.dry_base >= 1 and sampling.dry_penalty_last_n != 0


class Dry:
    """How well the end of one sequence matches what came before each of its places.

    A token that followed the same `length` >= dry_allowed_length tokens as those at the end is charged
    dry_multiplier * dry_base ** (length - dry_allowed_length), for the longest such match. Matches neither reach across
    `breakers` nor further back than dry_penalty_last_n tokens; breakers themselves are never charged.
    """

    def __init__(self, sampling: Sampling, prompt: Sequence[int], breakers: Collection[int], vocab: int) -> None:
        self._sampling = sampling
        self._base, self._multiplier = bounded_factor(sampling.dry_base), min(sampling.dry_multiplier, LARGEST)
        self._breaks = np.zeros(vocab, np.bool_)
        self._breaks[np.fromiter(breakers, np.intp, len(breakers))] = True
        self._tokens: Numbers = np.asarray(prompt, np.int32)
        self._lengths = matches(self._tokens, breakers)
        self._size = len(self._tokens)

    def count(self, token: int) -> None:
        """One more token: a match that it continues becomes longer, all others end."""
        self._reserve()
        size, lengths = self._size, self._lengths
        if self._breaks[token]:
            lengths[:size] = 0
        else:
            # Place 0 has no predecessor: its match is 1 or 0.
            lengths[1:size] = lengths[: size - 1] + 1
            lengths[0] = 1
            lengths[:size] *= self._tokens[:size] == token
        self._tokens[size] = token
        self._size += 1

    def apply(self, logits: Logits) -> None:
        """Change `logits` in place."""
        last, allowed = self._sampling.dry_penalty_last_n, self._sampling.dry_allowed_length
        start = max(self._size - last, 0) if last > 0 else 0
        tokens = self._tokens[start : self._size]
        lengths = np.minimum(self._lengths[start : self._size - 1], np.arange(1, len(tokens), dtype=np.int32))
        followers = tokens[1:]
        charged = np.flatnonzero((lengths >= allowed) & ~self._breaks[followers])
        charged = charged[np.argsort(lengths[charged], kind="stable")]  # of equal indices the last, longest one counts
        ids = followers[charged]
        logits[ids] -= self._charges(lengths[charged] - allowed)

    def _charges(self, beyond: Numbers) -> NDArray[np.float32]:
        longest = math.log(LARGEST) / max(math.log(self._base), 1e-9)
        grown = np.power(self._base, np.minimum(beyond, longest))
        return np.minimum(self._multiplier * grown, LARGEST).astype(np.float32)

    def _reserve(self) -> None:
        if self._size == len(self._tokens):
            more = np.zeros(max(self._size, 256), np.int32)
            self._tokens = np.concatenate([self._tokens, more])
        if self._size > len(self._lengths):
            self._lengths = np.concatenate([self._lengths, np.zeros_like(self._tokens)])


def matches(tokens: Numbers, breakers: Collection[int]) -> Numbers:
    """For each place but the last: how many tokens up to it equal those at the end, breakers ending the match."""
    backwards: list[int] = tokens[::-1].tolist()
    reach = next((place for place, token in enumerate(backwards) if token in breakers), len(backwards))
    lengths = np.array(_z(backwards)[1:], np.int32)[::-1]
    return np.minimum(lengths, np.int32(reach))


def _z(text: list[int]) -> list[int]:
    """The Z-function: how long the beginning of `text` repeats at each place, in linear time."""
    size, left, right = len(text), 0, 0
    z = [0] * size
    for place in range(1, size):
        length = min(right - place, z[place - left]) if place < right else 0
        while place + length < size and text[length] == text[place + length]:
            length += 1
        if place + length > right:
            left, right = place, place + length
        z[place] = length
    return z
