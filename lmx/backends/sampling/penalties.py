"""What a sequence is charged for tokens that it has said already."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from lmx.backends.sampling.filters import Logits
from lmx.backends.sampling.limits import bounded, bounded_factor
from lmx.machines.types import Sampling


class Penalties:
    """What one sequence has said so far, and what repeating it costs.

    repetition_penalty sees the whole sequence, prompt and generated: positive logits are divided by it, negative ones
    multiplied. presence_penalty and frequency_penalty see generated tokens only, as in OpenAI's API.
    """

    def __init__(self, sampling: Sampling, prompt: Sequence[int], vocab: int, written: int = 0) -> None:
        """The last `written` tokens of the prompt count as generated."""
        self._repetition = np.float32(bounded_factor(sampling.repetition_penalty))
        self._presence = bounded(sampling.presence_penalty)
        self._frequency = bounded(sampling.frequency_penalty)
        self._seen = np.zeros(vocab, np.bool_)
        self._seen[np.asarray(prompt, np.intp)] = True
        self._generated = Counter(prompt[len(prompt) - written :])

    @staticmethod
    def wanted(sampling: Sampling) -> bool:
        return sampling.repetition_penalty != 1 or bool(sampling.presence_penalty or sampling.frequency_penalty)

    def count(self, token: int) -> None:
        self._seen[token] = True
        self._generated[token] += 1

    def apply(self, logits: Logits) -> None:
        """Change `logits` in place."""
        if self._repetition != 1:
            seen = np.flatnonzero(self._seen)
            before = logits[seen]
            logits[seen] = np.where(before < 0, before * self._repetition, before / self._repetition)
        if self._generated and (self._presence or self._frequency):
            said = np.fromiter(self._generated.keys(), np.intp, len(self._generated))
            times = np.fromiter(self._generated.values(), np.float32, len(self._generated))
            logits[said] -= np.float32(self._presence) + np.float32(self._frequency) * times
