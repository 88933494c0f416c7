"""The Backend protocol for every backend: what the sampling parameters mean."""

import math
from dataclasses import replace

import pytest

from lmx.backends.base import SeqError, SeqSpec, Token
from lmx.backends.registry import open_backend
from lmx.machines.types import Sampling
from tests.support.contract import CASES, GREEDY, Loaded, go_on, model_spec, spec, tokens_of
from tests.support.sampling import ListedMask


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


@pytest.mark.parametrize(
    "narrow", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"top_n_sigma": 1e-6}, {"temperature": 1e-6}]
)
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


EVERYTHING = Sampling(
    seed=9, top_p=0.95, top_k=40, min_p=0.01, top_n_sigma=2.5, typical_p=0.9, xtc_probability=0.5, dry_multiplier=0.8
)


def test_every_filter_at_once_beside_others(loaded: Loaded) -> None:
    """Whatever is random or remembered depends on the sequence alone, not on those beside it."""
    one = spec(0, 20, 16, EVERYTHING)
    alone = loaded.tokens(one)
    events = loaded.run(spec(3, 50, 12, Sampling(xtc_probability=0.5)), replace(one, id=1), spec(2, 9, 20))
    assert tokens_of(1, events) == alone


def test_dry_keeps_from_repeating(loaded: Loaded) -> None:
    """With a huge multiplier no pair of tokens is continued twice in the same way."""
    one = spec(0, 20, 80, Sampling(temperature=0, dry_multiplier=1e6, dry_allowed_length=2))
    text = [*one.prompt, *loaded.tokens(one)]
    triples = list(zip(text, text[1:], text[2:], strict=False))
    assert len(set(triples)) == len(triples)


def test_a_mask_is_obeyed(loaded: Loaded) -> None:
    """Only allowed tokens are said, greedily or drawn; the mask learns of each once; a neighbour notices nothing."""
    alone = loaded.tokens(spec(3, 50))
    places = [{100, 101, 102}, {60}, set(range(70, 90))]
    for sampling in (GREEDY, Sampling(seed=2, temperature=1.5)):
        mask = ListedMask(loaded.info.vocab, *places)
        events = loaded.run(replace(spec(0, 20, 10, sampling), mask=mask), spec(3, 50))
        said = tokens_of(0, events)
        assert all(token in places[min(index, 2)] for index, token in enumerate(said))
        assert mask.accepted == said
        assert tokens_of(3, events) == alone


def test_a_lost_mask_fails_its_own_sequence(loaded: Loaded) -> None:
    """A constraint that cannot go on ends in an error with its reason after the tokens before it; others go on."""
    alone = loaded.tokens(spec(3, 50))
    mask = ListedMask(loaded.info.vocab, {100, 101}, fault_at=3)
    events = loaded.run(replace(spec(0, 20, 10), mask=mask), spec(3, 50))
    assert len([event for event in events if isinstance(event, Token) and event.seq == 0]) == 3
    assert [event.message for event in events if isinstance(event, SeqError)] == ["lost the way"]
    assert [event.token for event in events if isinstance(event, Token) and event.seq == 3] == alone


def test_min_tokens_puts_the_end_off(loaded: Loaded) -> None:
    """A stop token that would come first comes only after `min_tokens` others."""
    one = spec(0, 20, 12)
    stop_ids = frozenset(loaded.tokens(one)[:1])
    assert loaded.tokens(replace(one, stop_ids=stop_ids)) == list(stop_ids)
    said = loaded.tokens(replace(one, stop_ids=stop_ids, min_tokens=6))
    assert len(said) > 6 or not stop_ids & set(said)
    assert not stop_ids & set(said[:6])


def test_logprobs_are_of_the_model(loaded: Loaded) -> None:
    """Asking changes no token; settings change no log-probability; the whole vocabulary sums to one."""
    vocab = loaded.info.vocab
    plain = loaded.run(replace(spec(0, 20, 6), logprobs=vocab))
    assert tokens_of(0, plain) == loaded.tokens(spec(0, 20, 6))
    for token in (event for event in plain if isinstance(event, Token)):
        assert token.logprob is not None
        assert token.logprob.token == token.token
        assert token.logprob.top[0] == (token.token, token.logprob.logprob)
        assert sum(math.exp(value) for _, value in token.logprob.top) == pytest.approx(1, abs=1e-3)
    biased = Sampling(temperature=0, logit_bias={tokens_of(0, plain)[0]: 5.0}, presence_penalty=0.1)
    first = next(event for event in loaded.run(replace(spec(0, 20, 1, biased), logprobs=0)) if isinstance(event, Token))
    assert first.logprob is not None
    expected = next(event.logprob for event in plain if isinstance(event, Token))
    assert expected is not None
    assert first.logprob.logprob == pytest.approx(expected.logprob, abs=1e-4)
    assert first.logprob.top == ()


def test_audit_passes_on_a_sound_model(loaded: Loaded) -> None:
    """`audit` changes nothing when all logits are finite."""
    assert loaded.tokens(replace(spec(0, 30), audit=True)) == loaded.tokens(spec(0, 30))


# Between backends


def test_backends_agree(loaded: Loaded) -> None:
    """The same weights say the same through every backend, greedily, with penalties and with DRY."""
    pytest.importorskip(CASES[0].library, reason="the first backend is what all are compared with")
    reference = open_backend(CASES[0].name)
    other = Loaded(CASES[0], reference, reference.load(model_spec(CASES[0]), go_on))
    for sampling in (
        GREEDY,
        Sampling(temperature=0, repetition_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.2),
        Sampling(temperature=0, dry_multiplier=2.0, dry_allowed_length=1),
    ):
        one = spec(0, 40, 20, sampling)
        assert loaded.tokens(one) == other.tokens(one)
    asked = replace(spec(0, 40, 10), logprobs=3)
    here, there = ([event.logprob for event in each.run(asked) if isinstance(event, Token)] for each in (loaded, other))
    for mine, theirs in zip(here, there, strict=True):
        assert mine is not None
        assert theirs is not None
        assert [token for token, _ in mine.top] == [token for token, _ in theirs.top]
        assert mine.logprob == pytest.approx(theirs.logprob, abs=0.02)
    text = "hello world, 日本 👩‍👩‍👧\n\tend"
    assert loaded.backend.encode(text, special=True) == reference.encode(text, special=True)
    assert list(loaded.info.token_bytes) == list(other.info.token_bytes)
    reference.close()
