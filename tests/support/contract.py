"""The backends that the contract tests run over, and a driver for them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lmx.backends.base import Backend, Event, Info, SeqError, SeqSpec, Token
from lmx.machines.types import BackendName, ModelSpec, Sampling
from tests.support import models

CONTEXT, SLOTS, CHUNK = 256, 4, 64
GREEDY = Sampling(temperature=0)
PROMPT_LENGTHS = (5, 150, 33, 1)


class Case(NamedTuple):
    """One backend: its name, the library that must be there, and what makes a tiny model for it."""

    name: BackendName
    library: str
    model: Callable[[], Path]


CASES = (
    Case("llama_cpp", "llama_cpp", models.gguf_file),
    Case("mlx", "mlx_lm", models.mlx_folder),
)


@dataclass
class Loaded:
    """A backend with its model, driven to the end of all sequences."""

    case: Case
    backend: Backend
    info: Info

    def run(self, *specs: SeqSpec, chunk: int = CHUNK) -> list[Event]:
        for spec in specs:
            self.backend.add(spec)
        return self.drain(chunk)

    def drain(self, chunk: int = CHUNK) -> list[Event]:
        events: list[Event] = []
        while step := self.step(chunk):
            events += step
        return events

    def step(self, chunk: int = CHUNK) -> list[Event]:
        """One step; what has come to its end is released, as the engine does."""
        events = self.backend.step(chunk)
        for event in events:
            if isinstance(event, Token) and event.reason:
                self.backend.release(event.seq)
        return events

    def tokens(self, spec: SeqSpec, chunk: int = CHUNK) -> list[int]:
        return tokens_of(spec.id, self.run(spec, chunk=chunk))


def go_on(_fraction: float) -> bool:
    return True


def stop(_fraction: float) -> bool:
    return False


def model_spec(case: Case, **changes: object) -> ModelSpec:
    values = {"context": CONTEXT, "slots": SLOTS, "threads": 1} | changes
    return ModelSpec(name="tiny", path=str(case.model()), backend=case.name, **values)  # type: ignore[arg-type]


def prompt(length: int, seed: int = 0) -> list[int]:
    """Bytes of no meaning; never a control token."""
    first = len(models.CONTROL) + 1
    return [int(token) for token in np.random.default_rng([seed, length]).integers(first, first + 256, length)]


def spec(seq: int, length: int, max_tokens: int = 12, sampling: Sampling = GREEDY) -> SeqSpec:
    return SeqSpec(seq, prompt(length, seq), max_tokens, sampling)


def tokens_of(seq: int, events: Sequence[Event]) -> list[int]:
    assert not [event for event in events if isinstance(event, SeqError)]
    return [event.token for event in events if isinstance(event, Token) and event.seq == seq]
