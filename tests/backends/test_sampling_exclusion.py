"""Masks, min_tokens and bans, in numpy and on the device: what may not be chosen never is."""

import importlib.util
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmx.backends.base import SeqSpec
from lmx.backends.sampling import Logits, NonFiniteLogits, Sampler
from lmx.machines.types import Sampling
from tests.support.sampling import Drive, ListedMask, on_mlx, on_numpy

VOCAB = 75
STOP = 5
GREEDY = Sampling(temperature=0)
BOTH = [on_numpy]
if importlib.util.find_spec("mlx"):
    BOTH.append(on_mlx)

both = pytest.mark.parametrize("drive", BOTH)


def rows(count: int, seed: int = 0) -> list[Logits]:
    return list(np.random.default_rng(seed).normal(0, 2, (count, VOCAB)).astype(np.float32))


def favouring(*tokens: int) -> list[Logits]:
    """One place for each token, where it is the best."""
    made = rows(len(tokens))
    for row, token in zip(made, tokens, strict=True):
        row[token] = 50
    return made


def spec(mask: ListedMask | None = None, sampling: Sampling = GREEDY, **more: object) -> SeqSpec:
    return SeqSpec(0, [1, 2, 3], 9, sampling, mask=mask, **more)  # type: ignore[arg-type]


@both
@given(places=st.lists(st.sets(st.integers(0, VOCAB - 1), min_size=1), min_size=1, max_size=6), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_only_what_the_mask_allows_is_chosen(drive: Drive, places: list[set[int]], seed: int) -> None:
    """Greedily the best of the allowed tokens; drawn, one of them; and the mask learns of each token once, in order."""
    made = rows(len(places), seed)
    greedy = ListedMask(VOCAB, *places)
    best = [max(place, key=row.__getitem__) for place, row in zip(places, made, strict=True)]
    assert drive(spec(greedy), made) == (best, [None] * len(places), "")
    assert greedy.accepted == best
    drawn = ListedMask(VOCAB, *places)
    said = drive(spec(drawn, Sampling(temperature=3.0, top_p=0.9, seed=seed)), made).tokens
    assert all(token in place for token, place in zip(said, places, strict=True))
    assert drawn.accepted == said


@both
def test_a_fault_of_the_mask_ends_the_sequence(drive: Drive) -> None:
    """The tokens before it were right and are told; the one that cannot be chosen any more fails with the reason."""
    outcome = drive(spec(ListedMask(VOCAB, {7, 8}, fault_at=2)), rows(5))
    assert len(outcome.tokens) == 2
    assert outcome.fault == "lost the way"


@both
def test_a_fault_after_the_end_harms_nobody(drive: Drive) -> None:
    """What the mask says after the last token that is reported does not matter."""
    outcome = drive(spec(ListedMask(VOCAB, {7, 8}, fault_at=3)), rows(3))
    assert (len(outcome.tokens), outcome.fault) == (3, "")


@both
def test_a_mask_that_allows_nothing_is_a_fault(drive: Drive) -> None:
    """Nothing that a constraint forbids is ever generated, even when it forbids everything."""
    outcome = drive(spec(ListedMask(VOCAB, {7}, set())), rows(3))
    assert (outcome.tokens, bool(outcome.fault)) == ([7], True)


@both
def test_a_mask_that_allows_only_the_impossible_is_a_fault(drive: Drive) -> None:
    """The same where the only allowed token has no probability at all."""
    made = rows(3)
    made[1][7] = -math.inf
    outcome = drive(spec(ListedMask(VOCAB, {7})), made)
    assert (outcome.tokens, bool(outcome.fault)) == ([7], True)


@both
def test_a_narrow_mask_forbids_what_lies_beyond_it(drive: Drive) -> None:
    """Tokens that a mask has no bits for (padding of the vocabulary) are not allowed."""
    assert drive(spec(ListedMask(32, {7, 8})), favouring(70)).tokens[0] in {7, 8}


@both
def test_no_stop_token_before_min_tokens(drive: Drive) -> None:
    """A sequence does not end before it has said `min_tokens` tokens."""
    said = drive(spec(min_tokens=2, stop_ids=frozenset({STOP, 6})), favouring(STOP, STOP, STOP)).tokens
    assert not {STOP, 6} & set(said[:2])
    assert said[2] == STOP


@both
def test_min_tokens_gives_way_to_the_mask(drive: Drive) -> None:
    """Where a constraint allows nothing but a stop token, the sequence ends although it is short."""
    mask = ListedMask(VOCAB, {STOP, 9}, {STOP})
    said = drive(spec(mask, min_tokens=5, stop_ids=frozenset({STOP})), favouring(STOP, STOP)).tokens
    assert said == [9, STOP]
    assert mask.accepted == said


@both
def test_bias_does_not_overrule_the_mask(drive: Drive) -> None:
    """A forbidden token stays forbidden, whatever its bias."""
    biased = Sampling(temperature=0, logit_bias={9: 1e30})
    assert drive(spec(ListedMask(VOCAB, {7, 8}), biased), favouring(9)).tokens[0] in {7, 8}


HUGE = [
    {"repetition_penalty": 1e38},
    {"repetition_penalty": 1e-38},
    {"presence_penalty": -3e38, "frequency_penalty": -3e38},
    {"presence_penalty": 3e38, "frequency_penalty": 3e38},
    {"logit_bias": {4: 3e38, 5: -3e38}},
    {"dry_multiplier": 3e38, "dry_base": 3e38, "dry_allowed_length": 1},
    {"top_n_sigma": 1e38, "frequency_penalty": 3e38},
    {"typical_p": 1e-30, "presence_penalty": -3e38},
]


@both
@pytest.mark.parametrize("parameters", HUGE)
@pytest.mark.parametrize("temperature", [0, 1e-30, 1, 1e30])
def test_no_number_breaks_the_arithmetic(drive: Drive, parameters: dict[str, object], temperature: float) -> None:
    """However large a setting is, each place gets a token of the vocabulary and no error."""
    sampling = Sampling(temperature=temperature, seed=1, **parameters)  # type: ignore[arg-type]
    outcome = drive(spec(None, sampling), rows(12))
    assert outcome.fault == ""
    assert len(outcome.tokens) == 12
    assert all(0 <= token < VOCAB for token in outcome.tokens)


def test_whose_fault_it_is() -> None:
    """`raw` tells numbers that the model computed from those that settings led to."""
    broken = rows(1)[0]
    broken[3] = math.nan
    with pytest.raises(NonFiniteLogits) as model:
        Sampler(spec(), VOCAB).next(broken)
    everything = Sampling(logit_bias=dict.fromkeys(range(VOCAB), -math.inf))
    with pytest.raises(NonFiniteLogits) as settings_:
        Sampler(spec(None, everything), VOCAB).next(rows(1)[0])
    assert (model.value.raw, settings_.value.raw) == (True, False)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_mask_hides_no_broken_model(value: float) -> None:
    """NaN and infinity are errors of the model, allowed by the mask or not."""
    broken = rows(1)[0]
    broken[3] = value
    with pytest.raises(NonFiniteLogits) as error:
        Sampler(spec(ListedMask(VOCAB, {7})), VOCAB).next(broken)
    assert error.value.raw


def test_draws_do_not_depend_on_others() -> None:
    """Two sequences interleaved say what each says alone."""
    one, made = spec(None, Sampling(seed=4, xtc_probability=0.5, xtc_threshold=0.01)), rows(8)
    alone = on_numpy(one, made).tokens
    first, second = Sampler(one, VOCAB), Sampler(replace(one, sampling=Sampling(seed=5)), VOCAB)
    beside = [(first.next(row).token, second.next(row).token)[0] for row in made]
    assert beside == alone
