"""A small model that guesses what the large one will say."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from lmx.backends.base import LoadError
from lmx.backends.llama_cpp.batch import Part
from lmx.backends.llama_cpp.context import Context
from lmx.backends.llama_cpp.model import Model
from lmx.machines.types import ModelSpec


class Wanted(NamedTuple):
    """At most `most` tokens that may follow `tokens`."""

    tokens: Sequence[int]
    most: int


class DraftModel:
    """Has a slot for each slot of the model that it guesses for."""

    def __init__(self, model: Model, spec: ModelSpec, progress: Callable[[float], bool]) -> None:
        """Raises LoadError, also for a model with another vocabulary."""
        self._model = Model(spec.draft, progress)
        self._known: dict[int, list[int]] = {}
        """The tokens in each slot."""
        try:
            _require_same_vocabulary(model, self._model)
            self._context = Context(self._model, _draft_spec(spec))
        except LoadError:
            self._model.close()
            raise
        if not self._context.trims:
            self.close()
            raise LoadError(f"{spec.draft} cannot take a guess back; choose a draft model with attention only")

        self.weights_bytes = int(self._model.weights_bytes)
        self.kv_bytes = self._context.kv_bytes

    def propose(self, wanted: dict[int, Wanted]) -> dict[int, list[int]]:
        """For each slot the likeliest token, and after it the likeliest again; none where it cannot say yet."""
        ready = {slot: one for slot, one in wanted.items() if self._fits(one) and self._catch_up(slot, one.tokens)}
        guesses: dict[int, list[int]] = {slot: [] for slot in ready}
        parts = [Part(slot, len(one.tokens) - 1, one.tokens[-1:]) for slot, one in sorted(ready.items())]
        while parts:
            if self._context.decode(parts):
                self._reset()
                return {}
            for index, part in enumerate(parts):
                self._known[part.slot].append(part.tokens[0])
                guesses[part.slot].append(int(np.argmax(self._context.logits(index))))
            unfinished = [part.slot for part in parts if len(guesses[part.slot]) < ready[part.slot].most]
            parts = [Part(slot, len(self._known[slot]), guesses[slot][-1:]) for slot in unfinished]
        return guesses

    def forget(self, slot: int) -> None:
        if self._known.pop(slot, None) is not None:
            self._context.forget(slot)

    def close(self) -> None:
        self._context.close()
        self._model.close()

    def _fits(self, one: Wanted) -> bool:
        return 0 < one.most <= self._context.length - len(one.tokens)

    def _catch_up(self, slot: int, tokens: Sequence[int]) -> bool:
        """Read all of `tokens` but the last, a batch at most; False while some are missing."""
        known = self._known.setdefault(slot, [])
        same = _common(known, tokens[:-1])
        if same < len(known):
            self._context.cut(slot, same)
            del known[same:]
        missing = tokens[same:-1][: self._context.batch_tokens]
        if missing and self._context.decode([Part(slot, same, missing, 0)]):
            self._reset()
            return False
        known.extend(missing)
        return len(known) == len(tokens) - 1

    def _reset(self) -> None:
        """Begin again after a decode that failed: guesses are no reason to fail anybody."""
        self._context.wipe()
        self._known.clear()


def _common(known: Sequence[int], tokens: Sequence[int]) -> int:
    """How many tokens both begin with; almost always all that are known."""
    if list(tokens[: len(known)]) == known:
        return len(known)
    return next((at for at, (one, other) in enumerate(zip(known, tokens, strict=False)) if one != other), len(tokens))


def _draft_spec(spec: ModelSpec) -> ModelSpec:
    return msgspec.structs.replace(
        spec, path=spec.draft, kv_type="f16", flash_attention="auto", kv_layout="auto", adapters=(), speculation="off"
    )


def _require_same_vocabulary(model: Model, draft: Model) -> None:
    same = model.vocab.size == draft.vocab.size and model.vocab.token_bytes() == draft.vocab.token_bytes()
    if not same:
        raise LoadError(f"{draft.path} has another vocabulary than {model.path}; choose a draft model of its family")
