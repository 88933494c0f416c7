"""Natural log-probabilities of tokens under the model's own distribution."""

import math

import numpy as np

from lmx.backends.base import Logprob
from lmx.backends.sampling.faults import NonFiniteLogits
from lmx.backends.sampling.filters import Logits

IMPOSSIBLE = -9999.0
"""In place of -inf, which JSON has no word for."""


def prompt_logprob(logits: Logits, token: int, count: int) -> Logprob:
    """Of `token` and of the `count` most likely tokens, for the model's untouched `logits`. Raises NonFiniteLogits."""
    peak = logits.max()
    if not np.isfinite(peak):
        raise NonFiniteLogits("non-finite logits where a log-probability was asked for")
    total = float(peak) + math.log(np.exp(logits - peak).sum(dtype=np.float64))
    top = tuple((int(other), float(logits[other]) - total) for other in _most_likely(logits, count))
    return Logprob(token, max(float(logits[token]) - total, IMPOSSIBLE), top)


def _most_likely(logits: Logits, count: int) -> list[int]:
    """At most `count` possible tokens, best first; of equal ones the lower id."""
    if count <= 0:
        return []
    first = max(logits.size - count, 0)
    ids = np.argpartition(logits, first)[first:]
    ids = ids[logits[ids] > -math.inf]
    ranked: list[int] = ids[np.lexsort((ids, -logits[ids]))].tolist()
    return ranked
