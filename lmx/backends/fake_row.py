"""One sequence of the fake backend: what it says, and how likely that is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lmx.backends.base import Logprob, Mask, SeqSpec, Token
from lmx.backends.fake_answers import following
from lmx.machines.types import FinishReason

EOS = 256
"""Tokens 0 … 255 are bytes."""
VOCAB = EOS + 1


@dataclass
class Row:
    spec: SeqSpec
    prefilled: int = 0
    told: int = 0
    """Prompt tokens whose log-probabilities were told."""
    written: list[int] = field(default_factory=list)
    """By earlier workers too."""
    ended: bool = False
    answer: bytes | None = None
    """What it is to say instead of an echo."""

    def __post_init__(self) -> None:
        self.written = list(self.asked[1])

    @property
    def asked(self) -> tuple[Sequence[int], Sequence[int]]:
        """The prompt as it was first given, and what was written before."""
        cut = len(self.spec.prompt) - self.spec.written
        return self.spec.prompt[:cut], self.spec.prompt[cut:]

    @property
    def fresh(self) -> list[int]:
        """What it has written since it was added."""
        return self.written[self.spec.written :]

    @property
    def read(self) -> bool:
        return self.prefilled == len(self.spec.prompt)

    @property
    def computed(self) -> tuple[int, ...]:
        """What a real KV cache would hold: the newest token is not in it yet."""
        return (*self.spec.prompt[: self.prefilled], *self.fresh[:-1])

    def wanted(self) -> int:
        if self.answer is not None:
            return following(self.answer, bytes(byte for byte in self.written if byte < EOS), EOS)
        prompt, at = self.asked[0], len(self.written)
        if at < len(prompt) or (self._must_go_on and EOS in self.spec.stop_ids):
            return prompt[at % len(prompt)]
        return EOS

    def choice(self, wanted: int) -> int | None:
        """`wanted`, or the lowest token that may be had instead of it; None when there is none."""
        allowed = _bits(self.spec.mask)
        if self._must_go_on:
            allowed[list(self.spec.stop_ids)] = False
        if allowed[wanted]:
            return wanted
        return int(allowed.argmax()) if allowed.any() else None

    @property
    def _must_go_on(self) -> bool:
        return len(self.written) < self.spec.min_tokens

    def take(self, token: int, wanted: int) -> Token:
        spec = self.spec
        self.written.append(token)
        if spec.mask is not None:
            spec.mask.accept(token)
        ending = len(self.fresh) == spec.max_tokens
        reason: FinishReason | None = "stop" if token in spec.stop_ids else "length" if ending else None
        self.ended = reason is not None
        return Token(spec.id, token, reason, None if spec.logprobs is None else likely(token, wanted, spec.logprobs))

    def prompt_logprobs(self) -> tuple[Logprob, ...]:
        """Of what was read since the last time."""
        spec, start = self.spec, self.told
        if not spec.prompt_logprobs:
            return ()
        self.told = self.prefilled
        first = (Logprob(spec.prompt[0], None),) if start == 0 else ()
        later = range(max(1, start), self.prefilled)
        return first + tuple(likely(spec.prompt[at], spec.prompt[at - 1], spec.logprobs or 0) for at in later)


def likely(token: int, wanted: int, count: int) -> Logprob:
    """How likely `token` is where `wanted` is expected, and the `count` most likely ones."""
    rank = 0 if token == wanted else token + (token < wanted)
    best = [wanted, *(other for other in range(count + 1) if other != wanted)][:count]
    return Logprob(token, _of_rank(rank), tuple((other, _of_rank(place)) for place, other in enumerate(best)))


def _of_rank(rank: int) -> float:
    return -(rank + 1) * math.log(2)


def _bits(mask: Mask | None) -> NDArray[np.bool_]:
    """Which tokens a mask allows."""
    if mask is None:
        return np.ones(VOCAB, np.bool_)
    return np.unpackbits(mask.allowed().view(np.uint8), bitorder="little")[:VOCAB].astype(np.bool_)
