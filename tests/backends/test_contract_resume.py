"""The Backend protocol for every backend: a sequence goes on that another worker had begun."""

from dataclasses import replace

import pytest

from lmx.backends.base import SeqSpec, Token
from lmx.machines.types import Sampling
from tests.support.contract import GREEDY, Loaded, spec, tokens_of
from tests.support.sampling import ListedMask

LENGTH = 24
SETTINGS = {
    "greedy": GREEDY,
    "seeded": Sampling(temperature=1.0, seed=7),
    "penalties": Sampling(temperature=0, repetition_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.2),
    "dry": Sampling(temperature=0, dry_multiplier=2.0, dry_allowed_length=1),
}


def resumed(one: SeqSpec, written: list[int]) -> SeqSpec:
    return replace(one, prompt=[*one.prompt, *written], max_tokens=LENGTH - len(written), written=len(written))


@pytest.mark.parametrize("sampling", SETTINGS.values(), ids=SETTINGS.keys())
def test_it_says_what_it_would_have_said(loaded: Loaded, sampling: Sampling) -> None:
    """Whereever it is taken up, the rest is that of the undisturbed run, and ends where that ended."""
    one = spec(0, 20, LENGTH, sampling)
    whole = loaded.tokens(one)
    for cut in (1, 2, 11, LENGTH - 1):
        assert loaded.tokens(resumed(one, whole[:cut])) == whole[cut:]


def test_beside_others_and_in_small_chunks(loaded: Loaded) -> None:
    """What was written is read like a prompt, and disturbs nobody."""
    one, other = spec(0, 20, LENGTH), spec(3, 50)
    whole, alone = loaded.tokens(one), loaded.tokens(other)
    events = loaded.run(resumed(one, whole[:13]), other, chunk=7)
    assert (tokens_of(0, events), tokens_of(3, events)) == (whole[13:], alone)


def test_the_end_is_put_off_for_what_is_missing(loaded: Loaded) -> None:
    """`min_tokens` counts the written ones too."""
    one = replace(spec(0, 20, LENGTH), min_tokens=8)
    whole = loaded.tokens(one)
    stops = replace(one, stop_ids=frozenset(whole[5:6]))
    said = loaded.tokens(stops)
    for cut in (1, 4, 7):
        assert loaded.tokens(resumed(stops, said[:cut])) == said[cut:]


def test_a_mask_and_log_probabilities_go_on(loaded: Loaded) -> None:
    """The mask hears of new tokens only, and each of them has its log-probability."""
    one = spec(0, 20, LENGTH)
    mask = ListedMask(loaded.info.vocab, {100, 101, 102})
    asked = replace(resumed(one, loaded.tokens(one)[:9]), mask=mask, logprobs=2)
    events = [event for event in loaded.run(asked) if isinstance(event, Token)]
    assert len(events) == LENGTH - 9
    assert all(event.logprob is not None and event.logprob.token == event.token for event in events)
    assert mask.accepted == [event.token for event in events]
