"""The Backend protocol for every backend: what the sampling parameters mean."""

from dataclasses import replace

import pytest

from lmx.backends.base import SeqSpec
from lmx.backends.registry import open_backend
from lmx.machines.types import Sampling
from tests.support.contract import CASES, GREEDY, Loaded, go_on, model_spec, spec, tokens_of


def test_a_seed_repeats_itself(loaded: Loaded) -> None:
    """The same seed gives the same tokens, alone or beside others; another seed gives others."""
    seeded = Sampling(temperature=1.0, seed=7)
    alone = loaded.tokens(spec(0, 20, 12, seeded))
    events = loaded.run(
        spec(3, 50, 12, Sampling(temperature=1.5)),
        replace(spec(0, 20, 12, seeded), id=1),
        replace(spec(0, 20, 12, Sampling(temperature=1.0, seed=8)), id=2),
    )
    assert tokens_of(1, events) == alone
    assert tokens_of(2, events) != alone


def test_without_a_seed_draws_differ(loaded: Loaded) -> None:
    """Two sequences without a seed do not say the same."""
    hot = Sampling(temperature=2.0)
    assert loaded.tokens(spec(0, 20, 20, hot)) != loaded.tokens(spec(0, 20, 20, hot))


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"temperature": 1e-6}])
def test_the_narrowest_filter_is_greedy(loaded: Loaded, narrow: dict[str, float]) -> None:
    """A filter that leaves one token, or a temperature near 0, is greedy."""
    narrowed = Sampling(**{"temperature": 1.0, "seed": 1} | narrow)  # type: ignore[arg-type]
    assert loaded.tokens(spec(0, 20, 12, narrowed)) == loaded.tokens(spec(0, 20))


def test_presence_penalty_forbids_repeats(loaded: Loaded) -> None:
    """A huge presence penalty lets no token be generated twice, but tokens of the prompt may still be said."""
    said = loaded.tokens(spec(0, 20, 60, Sampling(temperature=0, presence_penalty=1e4)))
    assert len(set(said)) == 60
    everything = [index for index in range(loaded.info.vocab) if index not in loaded.info.eos]
    usual = SeqSpec(0, everything[:200], 1, GREEDY)
    assert loaded.tokens(replace(usual, sampling=Sampling(temperature=0, presence_penalty=1e4))) == loaded.tokens(usual)


def test_repetition_penalty_sees_the_prompt(loaded: Loaded) -> None:
    """A huge repetition penalty keeps out what the prompt or the completion has said."""
    one = spec(0, 60, 40, Sampling(temperature=0, repetition_penalty=1e6))
    said = loaded.tokens(one)
    assert len(set(said)) == 40
    assert not set(said) & set(one.prompt)


def test_audit_passes_on_a_sound_model(loaded: Loaded) -> None:
    """`audit` changes nothing when all logits are finite."""
    assert loaded.tokens(replace(spec(0, 30), audit=True)) == loaded.tokens(spec(0, 30))


# Between backends


def test_backends_agree(loaded: Loaded) -> None:
    """The same weights say the same through every backend, greedily and with penalties."""
    pytest.importorskip(CASES[0].library, reason="the first backend is what all are compared with")
    reference = open_backend(CASES[0].name)
    other = Loaded(CASES[0], reference, reference.load(model_spec(CASES[0]), go_on))
    for sampling in (
        GREEDY,
        Sampling(temperature=0, repetition_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.2),
    ):
        one = spec(0, 40, 20, sampling)
        assert loaded.tokens(one) == other.tokens(one)
    text = "hello world, 日本 👩‍👩‍👧\n\tend"
    assert loaded.backend.encode(text, special=True) == reference.encode(text, special=True)
    assert list(loaded.info.token_bytes) == list(other.info.token_bytes)
    reference.close()
