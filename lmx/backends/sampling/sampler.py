"""One sequence's way from logits to tokens."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from lmx.backends.base import Logprob, SeqSpec
from lmx.backends.sampling.draw import draw
from lmx.backends.sampling.dry import Dry, dry_wanted
from lmx.backends.sampling.faults import ConstraintFault, NonFiniteLogits
from lmx.backends.sampling.filters import Logits
from lmx.backends.sampling.logprobs import prompt_logprob
from lmx.backends.sampling.masking import Bias, Exclusion
from lmx.backends.sampling.penalties import Penalties
from lmx.backends.sampling.seeds import rolls, seed_of


class Choice(NamedTuple):
    """A token, and how likely the model found it where the sequence asks for that."""

    token: int
    logprob: Logprob | None = None


class Sampler:
    """Chooses the tokens of one sequence, one call of `next` each; every one of them is final.

    Order and meaning of all settings: `lmx.backends.sampling`. `banned` tokens are never chosen. With `spec.audit` a
    single non-finite logit raises NonFiniteLogits, else only one that would decide the choice.
    """

    def __init__(self, spec: SeqSpec, vocab: int, banned: Iterable[int] = ()) -> None:
        sampling = spec.sampling
        prompt = [token for token in spec.prompt if token < vocab] if spec.tiles else spec.prompt
        self._spec = spec
        self._seed = seed_of(sampling)
        self._bias = Bias(sampling.logit_bias, banned)
        self._exclusion = Exclusion(spec)
        self._memories: list[Penalties | Dry] = []
        if Penalties.wanted(sampling):
            self._memories.append(Penalties(sampling, prompt, vocab, spec.written))
        if dry_wanted(sampling):
            self._memories.append(Dry(sampling, prompt, spec.breakers, vocab))
        self._untouched = not (self._bias or self._exclusion or self._memories)
        self._index = spec.written

    def next(self, logits: Logits) -> Choice:
        """The next token; `logits` stay as they are. Raises NonFiniteLogits or ConstraintFault."""
        spec = self._spec
        if spec.audit and not np.isfinite(logits).all():
            raise NonFiniteLogits(f"non-finite logits for generated token {self._index}")
        adjusted = self._adjusted(logits)
        token = int(adjusted.argmax())  # NaN wins an argmax, so one look at the winner finds it
        if not np.isfinite(adjusted[token]):
            raise self._reason(logits, adjusted)
        if spec.sampling.temperature > 0:
            token = self._drawn(adjusted)
        logprob = None if spec.logprobs is None else prompt_logprob(logits, token, spec.logprobs)
        self._accept(token)
        return Choice(token, logprob)

    def _adjusted(self, logits: Logits) -> Logits:
        if self._untouched:
            return logits
        logits = logits.copy()
        with np.errstate(invalid="ignore"):  # infinity that meets -inf becomes NaN, and is found as such
            self._bias.apply(logits)
            self._exclusion.apply(logits, self._index)
            for memory in self._memories:
                memory.apply(logits)
        return logits

    def _drawn(self, logits: Logits) -> int:
        sampling, chance = self._spec.sampling, rolls(self._seed, self._index)
        return draw(logits, sampling, chance.draw, exclude=chance.exclude < sampling.xtc_probability)

    def _accept(self, token: int) -> None:
        for memory in self._memories:
            memory.count(token)
        if self._spec.mask is not None:
            self._spec.mask.accept(token)
        self._index += 1

    def _reason(self, logits: Logits, adjusted: Logits) -> NonFiniteLogits | ConstraintFault:
        """Why the best of the `adjusted` logits is no number."""
        if not np.isfinite(logits.max()):
            return NonFiniteLogits(f"non-finite logits decide generated token {self._index}")
        if self._spec.mask is not None and adjusted.max() == -np.inf:
            return ConstraintFault(f"the constraint leaves nothing for generated token {self._index}")
        return NonFiniteLogits(f"settings leave nothing for generated token {self._index}", raw=False)
