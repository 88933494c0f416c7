"""How the next token of one sequence is chosen, in numpy. `lmx.backends.mlx.sampling` has the same names and meanings.

The order, on both backends:

1.  log-probabilities are taken from the model's own logits, before anything changes them
2.  logit_bias; tokens that the model's files ban
3.  the constraint's mask; no stop token before min_tokens, unless the mask allows nothing else
4.  repetition_penalty, presence_penalty, frequency_penalty
5.  DRY
6.  temperature 0: the largest logit, and nothing of what follows
7.  top_n_sigma, top_p, min_p and top_k, each judged on the whole distribution; the strictest decides
8.  typical_p, judged on what they left
9.  XTC, judged on what typical_p left
10. a draw among the survivors at `temperature`

Filters (7 to 9) judge probabilities at temperature 1. Tokens as likely as the last survivor survive; one always does.
Whatever is random depends on (seed, index of the generated token) only, never on other sequences.
"""

from lmx.backends.sampling.draw import draw
from lmx.backends.sampling.dry import Dry
from lmx.backends.sampling.faults import ConstraintFault, NonFiniteLogits
from lmx.backends.sampling.filters import Logits
from lmx.backends.sampling.logprobs import prompt_logprob
from lmx.backends.sampling.penalties import Penalties
from lmx.backends.sampling.sampler import Choice, Sampler

__all__ = [
    "Choice",
    "ConstraintFault",
    "Dry",
    "Logits",
    "NonFiniteLogits",
    "Penalties",
    "Sampler",
    "draw",
    "prompt_logprob",
]
