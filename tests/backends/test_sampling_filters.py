"""Every filter against its plain definition, in numpy and on the device."""

import importlib.util
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lmx.backends.base import SeqSpec
from lmx.backends.sampling import Logits, Sampler
from lmx.backends.sampling.filters import survivors
from lmx.backends.sampling.seeds import rolls
from lmx.machines.types import Sampling

VOCAB = 40


def numpy_left(logits: Logits, sampling: Sampling, exclude: bool) -> set[int]:
    ids, kept = survivors(logits - logits.max(), sampling, exclude=exclude)
    possible = np.flatnonzero(kept > -math.inf)
    return set((possible if ids is None else ids[possible]).tolist())


def mlx_left(logits: Logits, sampling: Sampling, exclude: bool) -> set[int]:
    from lmx.backends.mlx.imports import mx
    from lmx.backends.mlx.sampling.filters import filtered

    row = mx.array(logits)[None]
    left = np.array(filtered(row - mx.logsumexp(row, axis=-1, keepdims=True), sampling, exclude=exclude))[0]
    return set(np.flatnonzero(left > -math.inf).tolist())


BOTH = [numpy_left]
if importlib.util.find_spec("mlx"):
    BOTH.append(mlx_left)
both = pytest.mark.parametrize("left", BOTH)
Left = Callable[[Logits, Sampling, bool], set[int]]


@dataclass
class Plain:
    """The filters as they are defined, with Python's numbers; `margins`: how clear each decision was."""

    logits: list[float]
    margins: list[float] = field(default_factory=list)

    def weights(self, among: Collection[int]) -> dict[int, float]:
        best = max(self.logits[token] for token in among)
        mass = {token: math.exp(self.logits[token] - best) for token in among}
        total = sum(mass.values())
        return {token: one / total for token, one in mass.items()}

    def fewest(self, weights: dict[int, float], order: dict[int, float], wanted: float) -> set[int]:
        """Tokens of the lowest `order` until they weigh `wanted`, and those equal to the last of them."""
        reached, last = 0.0, -math.inf
        for token in sorted(weights, key=order.__getitem__):
            self.margins.append(abs(reached - wanted))
            if reached >= wanted:
                break
            reached, last = reached + weights[token], order[token]
        self.margins += [abs(order[token] - last) for token in weights if order[token] != last]
        return {token for token in weights if order[token] <= last}

    def left(self, sampling: Sampling, exclude: bool) -> set[int]:
        possible = {token for token, logit in enumerate(self.logits) if logit > -math.inf}
        weights = self.weights(possible)
        rarity = {token: -self.logits[token] for token in possible}
        best = max(self.logits)
        left = set(possible)
        if sampling.top_n_sigma:
            sigma = float(np.std([self.logits[token] for token in possible]))
            left &= self.at_least(best - sampling.top_n_sigma * sigma)
        if sampling.min_p:
            left &= self.at_least(best + math.log(sampling.min_p))
        if 0 < sampling.top_k < len(possible):
            left &= self.at_least(sorted(self.logits, reverse=True)[sampling.top_k - 1])
        if sampling.top_p < 1:
            left &= self.fewest(weights, rarity, sampling.top_p)
        if sampling.typical_p < 1:
            left = self.typical(left, sampling.typical_p)
        return self.without_the_likely(left, sampling.xtc_threshold) if exclude else left

    def at_least(self, floor: float) -> set[int]:
        self.margins += [abs(logit - floor) for logit in self.logits if logit not in {floor, -math.inf}]
        return {token for token, logit in enumerate(self.logits) if logit >= floor}

    def typical(self, among: set[int], wanted: float) -> set[int]:
        weights = self.weights(among)
        surprise = {token: -math.log(weight) for token, weight in weights.items()}
        entropy = sum(weights[token] * surprise[token] for token in among)
        return self.fewest(weights, {token: abs(surprise[token] - entropy) for token in among}, wanted)

    def without_the_likely(self, among: set[int], threshold: float) -> set[int]:
        weights = self.weights(among)
        self.margins += [abs(weight - threshold) for weight in weights.values()]
        likely = [token for token in among if weights[token] >= threshold]
        last = min((self.logits[token] for token in likely), default=math.inf)
        return {token for token in among if self.logits[token] <= last}


share = st.floats(0.01, 0.99)
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "top_n_sigma": st.floats(0.1, 3),
        "top_p": share,
        "min_p": share,
        "top_k": st.integers(1, VOCAB + 5),
        "typical_p": share,
        "xtc_threshold": st.floats(0.01, 0.4),
    },
)
LOGITS = st.lists(
    st.one_of(st.integers(-12, 12).map(lambda n: n / 2), st.floats(-8, 8, width=32), st.just(-math.inf)),
    min_size=VOCAB,
    max_size=VOCAB,
).filter(lambda values: max(values) > -math.inf)


@both
@given(values=LOGITS, parameters=SETTINGS, exclude=st.booleans())
@settings(max_examples=300, deadline=None)
def test_filters_keep_what_their_definitions_keep(
    left: Left, values: list[float], parameters: dict[str, float], exclude: bool
) -> None:
    """Alone and together, with ties and impossible tokens; only where rounding cannot decide."""
    sampling = Sampling(**parameters)  # type: ignore[arg-type]
    plain = Plain(values)
    expected = plain.left(sampling, exclude)
    assume(min((margin for margin in plain.margins if margin > 0), default=1.0) > 1e-4)
    assume(0 not in plain.margins or not {"top_p", "typical_p", "xtc_threshold"} & parameters.keys())
    assert left(np.array(values, np.float32), sampling, exclude) == expected
    assert expected


@both
@pytest.mark.parametrize("vocab", [50, 1500, 12_000])
@pytest.mark.parametrize("spread", [0.2, 1.0, 3.0])
def test_shortcuts_through_a_large_vocabulary(left: Left, vocab: int, spread: float) -> None:
    """Only as many tokens are sorted as are needed: what is kept is what sorting everything keeps."""
    for seed in range(4):
        logits = np.random.default_rng(seed).normal(0, spread, vocab).astype(np.float32)
        plain = Plain(logits.tolist())
        for parameters in ({"typical_p": 0.1 + seed / 4}, {"top_p": 0.1 + seed / 4}):
            sampling = Sampling(**parameters)  # type: ignore[arg-type]
            expected = plain.left(sampling, False)
            # Sums of thousands of float32 numbers may take in or leave out one token more.
            assert len(left(logits, sampling, False) ^ expected) <= vocab / 1000


def probabilities(**weights: float) -> Logits:
    logits = np.full(VOCAB, -np.inf, np.float32)
    for name, weight in weights.items():
        logits[int(name[1:])] = math.log(weight)
    return logits


@both
def test_typical_keeps_the_unsurprising(left: Left) -> None:
    """The most likely token goes first where it says too little; those near the entropy stay."""
    row = probabilities(t1=0.5, t2=0.2, t3=0.2, t4=0.1)
    assert left(row, Sampling(typical_p=0.35), False) == {2, 3}
    assert left(row, Sampling(typical_p=1.0), False) == {1, 2, 3, 4}


@both
def test_sigma_counts_possible_tokens_only(left: Left) -> None:
    """What is impossible already has no say in the deviation."""
    row = np.full(VOCAB, -np.inf, np.float32)
    row[:5] = 2, 1, 0, -1, -2
    assert left(row, Sampling(top_n_sigma=1.0), False) == {0, 1}


@both
def test_xtc_excludes_all_likely_tokens_but_the_last(left: Left) -> None:
    """One likely token alone is never excluded, and neither is anything unlikely."""
    row = probabilities(t1=0.4, t2=0.3, t3=0.2, t4=0.1)
    assert left(row, Sampling(xtc_threshold=0.15), True) == {3, 4}
    assert left(row, Sampling(xtc_threshold=0.35), True) == {1, 2, 3, 4}
    assert left(row, Sampling(xtc_threshold=0.5), True) == {1, 2, 3, 4}
    assert left(row, Sampling(xtc_threshold=0.15, top_k=2), True) == {2}


def test_xtc_strikes_as_often_as_asked() -> None:
    """By (seed, index) alone, independently of where the draw falls, with the probability that was asked for."""
    row, sampling = probabilities(t1=0.5, t2=0.5 - 1e-9, t3=1e-9), Sampling(xtc_probability=0.3, xtc_threshold=0.1)
    row[2] -= 0.1
    never = Sampler(SeqSpec(0, [0], 1, Sampling(seed=1)), VOCAB)
    assert {never.next(row).token for _ in range(50)} == {1, 2}
    struck = 0
    for seed in range(1000):
        sampler = Sampler(SeqSpec(0, [0], 1, Sampling(seed=seed, xtc_probability=1.0)), VOCAB)
        assert sampler.next(row).token == 2
        struck += rolls(seed, 0).exclude < sampling.xtc_probability
    assert struck == pytest.approx(300, abs=50)


def test_both_sides_roll_alike() -> None:
    """Whether XTC strikes is decided by the same number everywhere, and by another one than the draw."""
    assert rolls(3, 7) == rolls(3, 7)
    assert len({number for index in range(50) for number in rolls(3, index)}) == 100


def test_greedy_takes_no_filter() -> None:
    """At temperature 0 the largest logit is chosen, XTC or not."""
    row = probabilities(t1=0.5, t2=0.3, t3=0.2)
    greedy = Sampling(temperature=0, xtc_probability=1.0, typical_p=0.1)
    assert Sampler(SeqSpec(0, [0], 1, greedy), VOCAB).next(row).token == 1
