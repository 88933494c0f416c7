"""Log-probabilities are the model's own, on both sides, for every token and in order."""

import importlib.util
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmx.backends.base import SeqSpec
from lmx.backends.sampling import Logits, NonFiniteLogits, prompt_logprob
from lmx.machines.types import Sampling
from tests.support.sampling import Drive, ListedMask, on_mlx, on_numpy

VOCAB = 64
BOTH = [on_numpy]
if importlib.util.find_spec("mlx"):
    BOTH.append(on_mlx)
both = pytest.mark.parametrize("drive", BOTH)


def rows(count: int, seed: int = 0) -> list[Logits]:
    return list(np.random.default_rng(seed).normal(0, 3, (count, VOCAB)).astype(np.float32))


def plain(row: Logits) -> list[float]:
    mass = [math.exp(float(logit)) for logit in row]
    return [math.log(one / sum(mass)) for one in mass]


CHANGING = Sampling(
    temperature=2.0, seed=1, top_p=0.5, repetition_penalty=3.0, logit_bias={1: 5.0}, dry_multiplier=1.0, typical_p=0.9
)


@both
@given(seed=st.integers(0, 1000), count=st.integers(0, VOCAB + 3))
@settings(max_examples=20, deadline=None)
def test_they_are_the_models_own(drive: Drive, seed: int, count: int) -> None:
    """Whatever is done to the logits afterwards; each belongs to the token beside it, the best come first."""
    mask = ListedMask(VOCAB, set(range(0, VOCAB, 2)))
    made = rows(5, seed)
    outcome = drive(SeqSpec(0, [1, 2], 9, CHANGING, logprobs=count, mask=mask), made)
    assert len(outcome.tokens) == 5
    for row, token, told in zip(made, outcome.tokens, outcome.logprobs, strict=True):
        expected = plain(row)
        assert told is not None
        assert told.token == token
        assert told.logprob == pytest.approx(expected[token], abs=1e-4)
        assert [other for other, _ in told.top] == np.argsort(-row, kind="stable")[:count].tolist()
        assert [value for _, value in told.top] == pytest.approx(sorted(expected, reverse=True)[:count], abs=1e-4)


@both
@pytest.mark.parametrize("temperature", [0, 1])
def test_all_of_them_sum_to_one(drive: Drive, temperature: float) -> None:
    """With the whole vocabulary asked for, the probabilities are a distribution; choosing is not changed by asking."""
    sampling, made = Sampling(temperature=temperature, seed=3), rows(4)
    asked = drive(SeqSpec(0, [1], 9, sampling, logprobs=VOCAB), made)
    assert drive(SeqSpec(0, [1], 9, sampling), made).tokens == asked.tokens
    for told in asked.logprobs:
        assert told is not None
        assert sum(math.exp(value) for _, value in told.top) == pytest.approx(1, abs=1e-5)


@both
def test_the_impossible_is_not_told(drive: Drive) -> None:
    """Tokens without any probability are not among the most likely ones: -inf has no place in JSON."""
    row = np.full(VOCAB, -np.inf, np.float32)
    row[[3, 9]] = 1.0, 2.0
    (told,) = drive(SeqSpec(0, [1], 9, Sampling(temperature=0), logprobs=5), [row]).logprobs
    assert told is not None
    assert [token for token, _ in told.top] == [9, 3]


@both
def test_they_cost_nothing_where_nobody_asks(drive: Drive) -> None:
    """None, for every token."""
    assert drive(SeqSpec(0, [1], 9, Sampling(temperature=0)), rows(3)).logprobs == [None] * 3


def test_a_prompts_own() -> None:
    """A given token is scored as a chosen one is; an impossible one with a number; broken logits are an error."""
    row = rows(1)[0]
    told = prompt_logprob(row, 7, 3)
    assert (told.token, len(told.top)) == (7, 3)
    assert told.logprob == pytest.approx(plain(row)[7], abs=1e-5)
    row[7] = -math.inf
    assert prompt_logprob(row, 7, 0).logprob == -9999.0
    row[8] = math.nan
    with pytest.raises(NonFiniteLogits):
        prompt_logprob(row, 7, 0)
