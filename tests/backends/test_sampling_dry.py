"""DRY against its definition: compare every earlier place with the end, token by token."""

import importlib.util

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmx.backends.base import SeqSpec
from lmx.backends.sampling import Dry, Logits, Sampler
from lmx.backends.sampling.dry import matches
from lmx.machines.types import Sampling
from tests.support.sampling import Drive, on_mlx, on_numpy

VOCAB = 6
tokens = st.lists(st.integers(0, 2), min_size=1, max_size=40)
breakers = st.frozensets(st.integers(0, VOCAB - 1), max_size=1)
DRY = st.builds(
    Sampling,
    dry_multiplier=st.sampled_from([0.5, 1.0, 3.0]),
    dry_base=st.sampled_from([1.0, 1.75, 2.0]),
    dry_allowed_length=st.integers(0, 4),
    dry_penalty_last_n=st.sampled_from([-1, 1, 2, 5, 12, 100]),
)
BOTH = [on_numpy]
if importlib.util.find_spec("mlx"):
    BOTH.append(on_mlx)


def plain(text: list[int], sampling: Sampling, breaking: frozenset[int]) -> Logits:
    """What each token of the vocabulary is charged after `text`."""
    last, allowed = sampling.dry_penalty_last_n, sampling.dry_allowed_length
    if last > 0:
        text = text[-last:]
    longest: dict[int, int] = {}
    for place in range(len(text) - 1):
        length = 0
        while length <= place and text[place - length] == text[-1 - length] and text[-1 - length] not in breaking:
            length += 1
        follower = text[place + 1]
        if length >= allowed and follower not in breaking:
            longest[follower] = max(longest.get(follower, 0), length)
    charges = np.zeros(VOCAB, np.float32)
    for token, length in longest.items():
        charges[token] = sampling.dry_multiplier * sampling.dry_base ** (length - allowed)
    return charges


@given(prompt=tokens, said=tokens, sampling=DRY, breaking=breakers)
@settings(max_examples=200, deadline=None)
def test_charges_are_those_of_the_definition(
    prompt: list[int], said: list[int], sampling: Sampling, breaking: frozenset[int]
) -> None:
    """At every place, however the sequence was split into prompt and completion."""
    dry, text = Dry(sampling, prompt, breaking, VOCAB), list(prompt)
    for token in said:
        logits = np.zeros(VOCAB, np.float32)
        dry.apply(logits)
        np.testing.assert_allclose(-logits, plain(text, sampling, breaking), rtol=1e-5)
        dry.count(token)
        text.append(token)


@given(prompt=tokens, said=tokens, sampling=DRY, breaking=breakers)
@settings(max_examples=60, deadline=None)
def test_the_device_charges_the_same(
    prompt: list[int], said: list[int], sampling: Sampling, breaking: frozenset[int]
) -> None:
    """MLX and numpy agree on every charge."""
    pytest.importorskip("mlx.core", reason="mlx is not installed")
    from lmx.backends.mlx.imports import mx
    from lmx.backends.mlx.sampling import Dry as DeviceDry

    dry, text = DeviceDry(SeqSpec(0, prompt, 1, sampling, breakers=breaking)), list(prompt)
    for token in said:
        charged = np.array(dry(mx.array(text), mx.zeros((1, VOCAB))))[0]
        np.testing.assert_allclose(-charged, plain(text, sampling, breaking), rtol=1e-4)
        text.append(token)


@given(prompt=st.lists(st.integers(0, 2), min_size=1, max_size=200), breaking=breakers)
@settings(max_examples=100, deadline=None)
def test_a_prompt_is_matched_as_if_it_had_been_said(prompt: list[int], breaking: frozenset[int]) -> None:
    """The linear-time algorithm for prompts gives what adding token by token gives."""
    dry = Dry(Sampling(), prompt[:1], breaking, VOCAB)
    for token in prompt[1:]:
        dry.count(token)
    found = matches(np.array(prompt, np.int32), breaking)
    assert found.tolist() == dry._lengths[: len(prompt) - 1].tolist()


@pytest.mark.parametrize("drive", BOTH)
def test_a_loop_is_left(drive: Drive) -> None:
    """A model that only wants to repeat itself is kept from it; with a breaker in the loop it is let be."""
    wants = np.array([[9, 0, 0, 0, 0, 1], [0, 9, 0, 0, 0, 1], [0, 0, 9, 0, 0, 1]] * 8, np.float32)
    sampling = Sampling(temperature=0, dry_multiplier=2.0, dry_base=2.0)
    said = drive(SeqSpec(0, [5, 5], 1, sampling), list(wants)).tokens
    assert said[:5] == [0, 1, 2, 0, 1]
    assert said != [0, 1, 2] * 8
    assert drive(SeqSpec(0, [5, 5], 1, sampling, breakers=frozenset({1, 2})), list(wants)).tokens == [0, 1, 2] * 8


def test_off_means_off() -> None:
    """No multiplier, a base below 1 or a window of nothing: no penalty, and none is worked out."""
    for off in ({}, {"dry_multiplier": 1.0, "dry_base": 0.5}, {"dry_multiplier": 1.0, "dry_penalty_last_n": 0}):
        sampler = Sampler(SeqSpec(0, [1] * 9, 1, Sampling(temperature=0, **off)), VOCAB)  # type: ignore[arg-type]
        assert sampler._untouched
