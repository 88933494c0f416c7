"""The sampler: what each parameter means, checked on logits made by hand."""

import math
from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from lmx.backends.base import SeqSpec
from lmx.backends.sampling import NonFiniteLogits, Sampler, draw
from lmx.machines.types import Sampling

VOCAB = 1500
"""More than one block of the two-level draw."""


def logits_of(**probabilities: float) -> NDArray[np.float32]:
    """Logits of a vocabulary in which only the given tokens (t3=0.5) are possible."""
    logits = np.full(VOCAB, -np.inf, np.float32)
    for name, probability in probabilities.items():
        logits[int(name[1:])] = math.log(probability)
    return logits


def survivors(logits: NDArray[np.float32], **parameters: float) -> set[int]:
    """Every token that some draw yields."""
    sampling = Sampling(**parameters)  # type: ignore[arg-type]
    return {draw(logits, sampling, uniform) for uniform in np.linspace(0, 1, 2000, endpoint=False)}


def sampler(
    prompt: tuple[int, ...] = (0,), *, banned: tuple[int, ...] = (), audit: bool = False, **parameters: object
) -> Sampler:
    sampling = Sampling(**parameters)  # type: ignore[arg-type]
    return Sampler(SeqSpec(0, prompt, 1, sampling, audit=audit), VOCAB, banned)


FIVE = logits_of(t3=0.4, t700=0.3, t1499=0.15, t0=0.1, t512=0.05)


def test_greedy_takes_the_largest_logit() -> None:
    """Temperature 0 is the argmax, and the logits stay untouched."""
    before = FIVE.copy()
    assert sampler(temperature=0).next(FIVE).token == 3
    assert np.array_equal(FIVE, before)


def test_draws_follow_the_distribution() -> None:
    """With the defaults each token comes as often as its probability says."""
    counts = Counter(draw(FIVE, Sampling(), uniform) for uniform in (np.arange(10_000) + 0.5) / 10_000)
    assert counts == {3: 4000, 700: 3000, 1499: 1500, 0: 1000, 512: 500}


def test_temperature_sharpens() -> None:
    """Probabilities are raised to 1/temperature: at 0.5 they are squared."""
    logits = logits_of(t3=0.75, t9=0.25)
    counts = Counter(draw(logits, Sampling(temperature=0.5), uniform) for uniform in (np.arange(1000) + 0.5) / 1000)
    assert counts == {3: 900, 9: 100}


def test_a_tiny_temperature_is_greedy() -> None:
    """No temperature is so small that it breaks the arithmetic."""
    assert survivors(FIVE, temperature=1e-38) == {3}


@pytest.mark.parametrize(
    ("top_k", "left"), [(1, {3}), (3, {3, 700, 1499}), (0, {0, 3, 512, 700, 1499}), (10_000, {0, 3, 512, 700, 1499})]
)
def test_top_k(top_k: int, left: set[int]) -> None:
    """The k most likely tokens; 0 or more than the vocabulary is no limit."""
    assert survivors(FIVE, top_k=top_k) == left


@pytest.mark.parametrize(
    ("top_p", "left"), [(0.3, {3}), (0.5, {3, 700}), (0.72, {3, 700, 1499}), (1.0, {0, 3, 512, 700, 1499})]
)
def test_top_p(top_p: float, left: set[int]) -> None:
    """The fewest most likely tokens that weigh at least top_p together."""
    assert survivors(FIVE, top_p=top_p) == left


@pytest.mark.parametrize(
    ("min_p", "left"), [(1.0, {3}), (0.5, {3, 700}), (0.2, {0, 3, 700, 1499}), (0.0, {0, 3, 512, 700, 1499})]
)
def test_min_p(min_p: float, left: set[int]) -> None:
    """Tokens at least min_p times as likely as the most likely one."""
    assert survivors(FIVE, min_p=min_p) == left


def test_filters_look_at_temperature_one() -> None:
    """top_p and min_p judge the model's probabilities; a high temperature lets no more tokens through."""
    assert survivors(FIVE, top_p=0.5, temperature=5.0) == {3, 700}
    assert survivors(FIVE, min_p=0.5, temperature=5.0) == {3, 700}


def test_filters_cut_independently() -> None:
    """top_p counts the whole distribution, not what top_k left; the strictest filter decides."""
    assert survivors(FIVE, top_k=2, top_p=0.72) == {3, 700}
    assert survivors(FIVE, top_k=4, top_p=0.5) == {3, 700}
    assert survivors(FIVE, top_k=4, top_p=0.9, min_p=0.6) == {3, 700}


def test_top_p_matches_the_plain_definition() -> None:
    """On many random distributions the shortcut keeps what sorting everything keeps."""
    for seed in range(20):
        random = np.random.default_rng(seed)
        logits = random.normal(0, 1 + seed / 4, VOCAB).astype(np.float32)
        top_p = 0.05 + 0.045 * seed
        order = np.argsort(-logits)
        probabilities = np.exp(logits.astype(np.float64))[order] / np.exp(logits.astype(np.float64)).sum()
        kept = set(order[: np.count_nonzero(np.cumsum(probabilities) - probabilities < top_p)].tolist())
        assert {
            draw(logits, Sampling(top_p=top_p), uniform) for uniform in np.linspace(0, 1, 200, endpoint=False)
        } <= kept
        assert draw(logits, Sampling(top_p=top_p), 0.0) == min(kept)
        assert draw(logits, Sampling(top_p=top_p), 1 - 1e-12) == max(kept)


def test_impossible_tokens_are_never_drawn() -> None:
    """Not even by the largest and smallest uniform numbers there are."""
    for uniform in (0.0, 5e-324, 1 - 2**-53):
        assert np.isfinite(FIVE[draw(FIVE, Sampling(), uniform)])
        assert np.isfinite(FIVE[draw(FIVE, Sampling(top_p=0.99), uniform)])


def test_seed_and_index_make_the_draw() -> None:
    """The same seed repeats the same draws; each token has a draw of its own; no seed means a new one."""
    flat = np.zeros(VOCAB, np.float32)

    def ten(one: Sampler) -> list[int]:
        return [one.next(flat).token for _ in range(10)]

    assert ten(sampler(seed=3)) == ten(sampler(seed=3))
    assert ten(sampler(seed=3)) != ten(sampler(seed=4))
    assert len(set(ten(sampler(seed=3)))) > 5
    assert ten(sampler()) != ten(sampler())


@pytest.mark.parametrize("seed", [-1, 0, 2**63 - 1, -(2**63)])
def test_any_64_bit_seed(seed: int) -> None:
    """Seeds are whatever fits 64 bits, negative ones too."""
    assert sampler(seed=seed).next(FIVE) == sampler(seed=seed).next(FIVE)


def test_bias_is_added() -> None:
    """logit_bias shifts logits before everything else."""
    assert sampler(temperature=0, logit_bias={700: 1.0}).next(FIVE).token == 700
    assert sampler(temperature=0, logit_bias={3: -100.0, 700: -100.0}).next(FIVE).token == 1499


def test_banned_tokens_stay_out() -> None:
    """What the model's own metadata forbids no bias brings back."""
    assert sampler(temperature=0, banned=(3,), logit_bias={3: 1000.0}).next(FIVE).token == 700


def test_presence_penalty_counts_once() -> None:
    """One generated token or ten: the same penalty. The prompt does not count."""
    logits = logits_of(t1=0.6, t2=0.4)
    one = sampler((1, 1, 1), temperature=0, presence_penalty=0.5)
    assert [one.next(logits).token for _ in range(4)] == [1, 2, 1, 1]


def test_frequency_penalty_counts_every_time() -> None:
    """Each generation of a token adds to its penalty. The prompt does not count."""
    logits = logits_of(t1=0.6, t2=0.4)
    one = sampler((1, 1, 1), temperature=0, frequency_penalty=0.3)
    assert [one.next(logits).token for _ in range(6)] == [1, 1, 2, 1, 2, 1]


def test_repetition_penalty_weighs_prompt_and_completion() -> None:
    """Positive logits of seen tokens are divided by it, negative ones multiplied."""
    logits = np.full(VOCAB, -10, np.float32)
    logits[[1, 2, 3]] = 4.0, 3.0, 2.5
    one = sampler((1,), temperature=0, repetition_penalty=2.0)
    assert [one.next(logits).token for _ in range(3)] == [2, 3, 1]
    logits[[1, 2, 3]] = -1.0, -1.5, -4.0
    assert sampler((1,), temperature=0, repetition_penalty=2.0).next(logits).token == 2


@pytest.mark.parametrize("parameters", [{"temperature": 0}, {}, {"top_p": 0.5}, {"repetition_penalty": 1.5}])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_and_infinity_are_errors(parameters: dict[str, float], value: float) -> None:
    """NaN anywhere and +inf are never sampled around: the sequence must fail."""
    logits = FIVE.copy()
    logits[1000] = value
    with pytest.raises(NonFiniteLogits):
        sampler(**parameters).next(logits)  # type: ignore[arg-type]


def test_nothing_possible_is_an_error() -> None:
    """All logits -inf leave nothing to choose."""
    with pytest.raises(NonFiniteLogits):
        sampler(temperature=0).next(np.full(VOCAB, -np.inf, np.float32))


def test_audit_wants_every_logit_finite() -> None:
    """-inf far from the choice passes without audit only."""
    assert sampler(temperature=0).next(FIVE).token == 3
    with pytest.raises(NonFiniteLogits):
        sampler(temperature=0, audit=True).next(FIVE)


@pytest.mark.parametrize("temperature", [1e-50, 1e-12, 1e-3, 2.0])
def test_any_temperature_that_a_client_may_send_draws_a_token(temperature: float) -> None:
    """However small, it ends in a token and not in an error; the smallest are greedy."""
    logits = np.linspace(-3, 3, 50, dtype=np.float32)
    token = Sampler(SeqSpec(0, [0], 1, Sampling(temperature=temperature, seed=1)), 50).next(logits).token
    assert 0 <= token < 50
    if temperature < 1e-2:
        assert token == 49
