"""Draws the next token of one sequence from its logits. Pure numpy: every filter is a floor under the logits."""

import math
import secrets
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from lmx.machines.types import Sampling

Logits = NDArray[np.float32]

SEED_BITS = 2**64 - 1
COLDEST = 1e-6
"""A lower temperature is no number in float32, and draws nothing else."""
BLOCK = 512
"""Summing a vocabulary by blocks first is far cheaper than one running sum over it."""


class NonFiniteLogits(ArithmeticError):
    """The model computed NaN or infinity where a number belongs."""


class Sampler:
    """Chooses the tokens of one sequence, one call of `next` each.

    Order and meaning are mlx-lm's: logit_bias, penalties, then top_p, min_p and top_k, all judged on the probabilities
    at temperature 1, then a draw among the survivors at `temperature`. Tokens as likely as the last survivor survive.
    repetition_penalty sees the whole sequence, prompt and generated (positive logits are divided by it, negative ones
    multiplied); presence_penalty and frequency_penalty see generated tokens only, as in OpenAI's API.
    A draw depends on the logits and (seed, index of the generated token) only; without a seed one is made up.
    `banned` tokens are never chosen. With `audit` a single non-finite logit raises NonFiniteLogits, else only one
    that would decide the choice.
    """

    def __init__(
        self, sampling: Sampling, prompt: Sequence[int], vocab: int, *, banned: Iterable[int] = (), audit: bool = False
    ) -> None:
        bias = sampling.logit_bias | dict.fromkeys(banned, -math.inf)
        self._sampling = sampling
        self._seed = secrets.randbits(64) if sampling.seed is None else sampling.seed & SEED_BITS
        self._bias_ids = np.fromiter(bias.keys(), np.intp, len(bias))
        self._bias = np.fromiter(bias.values(), np.float32, len(bias))
        self._penalties = Penalties(sampling, prompt, vocab) if Penalties.wanted(sampling) else None
        self._audit = audit
        self._index = 0

    def next(self, logits: Logits) -> int:
        """The next token; `logits` stay as they are. Raises NonFiniteLogits."""
        if self._audit and not np.isfinite(logits).all():
            raise NonFiniteLogits(f"non-finite logits for generated token {self._index}")
        logits = self._adjusted(logits)
        best = int(logits.argmax())  # NaN wins an argmax, so one look at the winner finds it
        if not np.isfinite(logits[best]):
            raise NonFiniteLogits(f"non-finite logits decide generated token {self._index}")
        token = best if self._sampling.temperature <= 0 else draw(logits, self._sampling, self._uniform())
        if self._penalties is not None:
            self._penalties.count(token)
        self._index += 1
        return token

    def _adjusted(self, logits: Logits) -> Logits:
        if self._penalties is None and not self._bias.size:
            return logits
        logits = logits.copy()
        logits[self._bias_ids] += self._bias
        if self._penalties is not None:
            self._penalties.apply(logits)
        return logits

    def _uniform(self) -> float:
        return float(np.random.default_rng((self._seed, self._index)).random())


class Penalties:
    """What one sequence has said so far, and what repeating it costs."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int], vocab: int) -> None:
        self._sampling = sampling
        self._seen = np.zeros(vocab, np.bool_)
        self._seen[np.asarray(prompt, np.intp)] = True
        self._generated = np.zeros(vocab, np.int32)

    @staticmethod
    def wanted(sampling: Sampling) -> bool:
        return sampling.repetition_penalty != 1 or bool(sampling.presence_penalty or sampling.frequency_penalty)

    def count(self, token: int) -> None:
        self._seen[token] = True
        self._generated[token] += 1

    def apply(self, logits: Logits) -> None:
        """Change `logits` in place."""
        sampling = self._sampling
        if sampling.repetition_penalty != 1:
            seen = np.flatnonzero(self._seen)
            before = logits[seen]
            penalty = np.float32(sampling.repetition_penalty)
            logits[seen] = np.where(before < 0, before * penalty, before / penalty)
        said = np.flatnonzero(self._generated)
        logits[said] -= sampling.presence_penalty + sampling.frequency_penalty * self._generated[said]


def draw(logits: Logits, sampling: Sampling, uniform: float) -> int:
    """One token for `uniform` in [0, 1), by inverse distribution over the survivors in the order of their ids.

    Ids and not ranks give the order: two almost equal logits may then change places without changing the draw.
    """
    logits = logits - logits.max()
    temperature = max(sampling.temperature, COLDEST)
    floor = _floor(logits, sampling)
    with np.errstate(over="ignore"):  # a tiny temperature: -inf is the right limit
        if floor == -math.inf:
            return _position(np.exp(logits / temperature), uniform)
        ids = np.flatnonzero(logits >= floor)
        return int(ids[_position(np.exp(logits[ids] / temperature), uniform)])


def _floor(logits: Logits, sampling: Sampling) -> float:
    """The logit below which no token may be drawn; `logits` have their maximum at 0."""
    floor = -math.inf
    if sampling.min_p > 0:
        floor = math.log(sampling.min_p)
    if 0 < sampling.top_k < logits.size:
        rank = logits.size - sampling.top_k
        floor = max(floor, float(np.partition(logits, rank)[rank]))
    if 0 < sampling.top_p < 1:
        floor = max(floor, _nucleus_floor(logits, sampling.top_p, floor))
    return floor


def _nucleus_floor(logits: Logits, top_p: float, floor: float) -> float:
    """The smallest logit of the most likely tokens that together weigh `top_p`; those below `floor` are out anyway."""
    total = float(np.exp(logits).sum(dtype=np.float64))
    # Tokens below this bound weigh less than 1 - top_p all together: they need no sorting.
    bound = math.log((1 - top_p) * total / logits.size)
    likely = logits[logits >= max(floor, bound)]
    likely[::-1].sort()
    mass = np.exp(likely)
    above = np.cumsum(mass, dtype=np.float64) - mass
    return float(likely[np.count_nonzero(above < top_p * total) - 1])


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
