"""How one sequence's logits become its next token: everything stays on the device, nothing waits for it.

Meanings are those of `lmx.backends.sampling`: logit_bias, penalties, then top_p, min_p and top_k, all judged on the
probabilities at temperature 1, then a draw among the survivors at `temperature`. mlx-lm's own filters are not used:
they are compiled anew for every value of a parameter, in the decode loop.
"""

import functools
import hashlib
import math
import secrets
import struct
from collections import deque
from collections.abc import Callable
from typing import Final

from lmx.backends.base import SeqSpec
from lmx.backends.mlx.imports import greedy_sampler, mx
from lmx.machines.types import Sampling

SEED_BITS: Final = 2**64 - 1
LOWEST_TEMPERATURE: Final = 1e-6
"""Lower ones draw as this one does; float32 has no room for their inverse."""

Sample = Callable[[mx.array], mx.array]
Process = Callable[[mx.array, mx.array], mx.array]
MLX_ERRORS = (ValueError, RuntimeError, TypeError, IndexError, OverflowError)
"""What mlx raises while a graph is built."""


class RowSampling:
    """What one sequence gives to the batch: `sampler` and `processors`, and what they found out on the way.

    mlx-lm calls them once for each token, one token ahead of those it reports, and once more after the last one.
    They never raise: an exception there would take other sequences with it, so `fault` waits to be asked for it.
    """

    def __init__(self, spec: SeqSpec) -> None:
        sampling = spec.sampling
        steps: list[Process] = []
        if sampling.logit_bias:
            steps.append(Bias(sampling.logit_bias))
        if Penalties.wanted(sampling):
            steps.append(Penalties(sampling))
        self._steps = steps
        self._finite: deque[mx.array] | None = deque() if spec.audit else None
        self._error: str | None = None
        self._draw = None if sampling.temperature <= 0 else Draw(sampling)

    @property
    def sampler(self) -> Sample:
        """Greedy rows share one object: mlx-lm samples a batch at once where all rows have the same."""
        return greedy_sampler if self._draw is None else self._sample

    @property
    def processors(self) -> list[Process]:
        return [self._process] if self._steps or self._finite is not None else []

    def fault(self) -> str | None:
        """Why the next token to be reported must not be; asked once per token. Only audited sequences wait here."""
        if self._error is None and self._finite is not None and not self._finite.popleft().item():
            return "the model computed logits that are not finite"
        return self._error

    def _process(self, tokens: mx.array, logits: mx.array) -> mx.array:
        if self._finite is not None:
            self._finite.append(mx.isfinite(logits).all())
        processed = logits
        try:
            for step in self._steps:
                processed = step(tokens, processed)
        except MLX_ERRORS as error:
            self._error = f"sampling failed: {error}"
            return logits
        return processed

    def _sample(self, logprobs: mx.array) -> mx.array:
        try:
            return self._draw(logprobs) if self._draw is not None else greedy_sampler(logprobs)
        except MLX_ERRORS as error:
            self._error = f"sampling failed: {error}"
            return greedy_sampler(logprobs)


class Draw:
    """One random token per call; a draw depends on the logits and (seed, how many were drawn before) only."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._seed = secrets.randbits(64) if sampling.seed is None else sampling.seed & SEED_BITS
        self._index = 0

    def __call__(self, logprobs: mx.array) -> mx.array:
        key = mx.random.key(_mixed(self._seed, self._index))
        self._index += 1
        logprobs = logprobs.astype(mx.float32)
        floor = _floor(logprobs, self._sampling)
        if floor is not None:
            logprobs = mx.where(logprobs < floor, -math.inf, logprobs)
        best = logprobs.max(axis=-1, keepdims=True)  # at 0, so that a low temperature leaves it there
        return mx.random.categorical((logprobs - best) / max(self._sampling.temperature, LOWEST_TEMPERATURE), key=key)


class Bias:
    """Adds the sequence's own constants to some logits."""

    def __init__(self, bias: dict[int, float]) -> None:
        self._ids = mx.array(list(bias))
        self._values = mx.array([float(value) for value in bias.values()], mx.float32)

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        return logits.astype(mx.float32).at[:, self._ids].add(self._values)


class Penalties:
    """What one sequence has said so far, counted on the device, and what repeating it costs."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._prompt: mx.array | None = None
        self._counts = mx.array(0.0)

    @staticmethod
    def wanted(sampling: Sampling) -> bool:
        return sampling.repetition_penalty != 1 or bool(sampling.presence_penalty or sampling.frequency_penalty)

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        """`tokens` are the prompt at the first call, and one more at each later one."""
        if self._prompt is None:
            self._counts = mx.zeros(logits.shape, mx.float32)
            self._prompt = self._counts.at[:, tokens].add(1.0) > 0
        else:
            self._counts = self._counts.at[:, tokens[-1:]].add(1.0)
        sampling, logits = self._sampling, logits.astype(mx.float32)
        said = self._counts > 0
        if (penalty := sampling.repetition_penalty) != 1:
            weakened = mx.where(logits < 0, logits * penalty, logits / penalty)
            logits = mx.where(self._prompt | said, weakened, logits)
        return logits - sampling.presence_penalty * said - sampling.frequency_penalty * self._counts


def _floor(logprobs: mx.array, sampling: Sampling) -> mx.array | None:
    """The log-probability below which no token may be drawn; None when all may."""
    floors: list[mx.array] = []
    if sampling.min_p > 0:
        floors.append(logprobs.max(axis=-1, keepdims=True) + math.log(min(sampling.min_p, 1.0)))
    size = logprobs.shape[-1]
    narrow, nucleus = 0 < sampling.top_k < size, 0 < sampling.top_p < 1
    if narrow or nucleus:
        ranked = mx.sort(logprobs, axis=-1)
        if narrow:
            floors.append(ranked[..., size - sampling.top_k : size - sampling.top_k + 1])
        if nucleus:
            floors.append(_nucleus_floor(ranked, sampling.top_p))
    return functools.reduce(mx.maximum, floors) if floors else None


def _nucleus_floor(ranked: mx.array, top_p: float) -> mx.array:
    """The smallest of the most likely tokens that together weigh `top_p`; `ranked` rises."""
    mass = mx.exp(ranked)
    above = mx.cumsum(mass, axis=-1, reverse=True, inclusive=False)
    total = above[..., :1] + mass[..., :1]
    dropped = (above >= top_p * total).sum(axis=-1, keepdims=True)
    return mx.take_along_axis(ranked, mx.minimum(dropped, ranked.shape[-1] - 1), axis=-1)


def _mixed(seed: int, index: int) -> int:
    """A key of its own for every pair; neighbouring pairs have nothing in common."""
    digest = hashlib.blake2b(struct.pack("<QQ", seed, index), digest_size=8).digest()
    return int.from_bytes(digest, "little")
