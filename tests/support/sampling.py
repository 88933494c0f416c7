"""Both ways to choose tokens, driven alike over logits made by hand."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmx.backends.base import Logprob, SeqSpec
from lmx.backends.sampling import ConstraintFault, Logits, Sampler


class Outcome(NamedTuple):
    """What a sequence said, and why it could not go on."""

    tokens: list[int]
    logprobs: list[Logprob | None]
    fault: str = ""


Drive = Callable[[SeqSpec, Sequence[Logits]], Outcome]


def on_numpy(spec: SeqSpec, rows: Sequence[Logits]) -> Outcome:
    sampler = Sampler(spec, rows[0].size)
    outcome = Outcome([], [])
    for row in rows:
        try:
            choice = sampler.next(row)
        except ConstraintFault as fault:
            return outcome._replace(fault=str(fault))
        outcome.tokens.append(choice.token)
        outcome.logprobs.append(choice.logprob)
    return outcome


def on_mlx(spec: SeqSpec, rows: Sequence[Logits]) -> Outcome:
    """As mlx-lm's batch does it: one token ahead of what is reported, and once more after the last one."""
    from lmx.backends.mlx.imports import mx
    from lmx.backends.mlx.sampling import RowSampling

    row_sampling, tokens = RowSampling(spec), mx.array(list(spec.prompt))
    outcome = Outcome([], [])
    for index, row in enumerate([*rows, rows[-1]]):
        logits = mx.array(row)[None]
        for process in row_sampling.processors:
            logits = process(tokens, logits)
        if index:
            if fault := row_sampling.fault():
                return outcome._replace(fault=fault)
            said: Any = tokens[-1].item()
            outcome.tokens.append(said)
            outcome.logprobs.append(row_sampling.logprob())
        chosen = row_sampling.sampler(logits - mx.logsumexp(logits, axis=-1, keepdims=True))
        tokens = mx.concatenate([tokens, chosen.astype(tokens.dtype)])
    return outcome


class ListedMask:
    """Allows at each place what a list says, at later ones what its last entry says; remembers what it was told."""

    def __init__(self, vocab: int, *places: set[int], fault_at: int | None = None) -> None:
        self.accepted: list[int] = []
        self._vocab = vocab
        self._places = places
        self._fault_at = fault_at

    def allowed(self) -> NDArray[np.uint32]:
        bits = np.zeros(-(-self._vocab // 32) * 32, np.uint8)
        bits[list(self._places[min(len(self.accepted), len(self._places) - 1)])] = 1
        return np.packbits(bits, bitorder="little").view(np.uint32)

    def accept(self, token: int) -> None:
        self.accepted.append(token)

    @property
    def fault(self) -> str:
        return "lost the way" if self._fault_at == len(self.accepted) else ""
