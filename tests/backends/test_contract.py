"""The Backend protocol for every backend: steps, events and endings."""

from dataclasses import replace

import pytest

from lmx.backends.base import Prefilled, Token
from lmx.machines.types import Sampling
from tests.support.contract import CHUNK, PROMPT_LENGTHS, SLOTS, Loaded, spec, tokens_of

# Steps


def test_greedy_is_the_same_alone_and_in_a_batch(loaded: Loaded) -> None:
    """What a sequence says does not depend on its neighbours in the batch."""
    specs = [spec(seq, length) for seq, length in enumerate(PROMPT_LENGTHS)]
    alone = [loaded.tokens(one) for one in specs]
    together = loaded.run(*specs)
    assert [tokens_of(one.id, together) for one in specs] == alone
    assert len({tuple(tokens) for tokens in alone}) == len(specs)


@pytest.mark.parametrize("chunk", [1, 7, 64, 512])
def test_chunks_do_not_change_the_result(loaded: Loaded, chunk: int) -> None:
    """How a prompt is cut into chunks changes nothing but the time it takes."""
    specs = [spec(seq, length) for seq, length in enumerate(PROMPT_LENGTHS)]
    expected = [loaded.tokens(one, chunk=256) for one in specs]
    events = loaded.run(*specs, chunk=chunk)
    assert [tokens_of(one.id, events) for one in specs] == expected


def test_joining_a_running_batch(loaded: Loaded) -> None:
    """A sequence added while others decode changes neither their tokens nor its own."""
    first, second = spec(0, 20, 30), spec(1, 100, 10)
    alone = loaded.tokens(first), loaded.tokens(second)
    loaded.backend.add(first)
    events = [event for _ in range(8) for event in loaded.step(CHUNK)]
    events += loaded.run(second, chunk=16)
    assert (tokens_of(0, events), tokens_of(1, events)) == alone


def test_decoding_does_not_wait_for_prefill(loaded: Loaded) -> None:
    """Every running sequence gets its token in each step, and a step computes at most `chunk` prompt tokens."""
    loaded.backend.add(spec(0, 5, 40))
    while not any(isinstance(event, Token) for event in loaded.step(CHUNK)):
        pass
    loaded.backend.add(spec(1, 150))
    done = 0
    while done < 150:
        events = loaded.step(16)
        assert [event.seq for event in events if isinstance(event, Token)].count(0) == 1
        progress = [event.done for event in events if isinstance(event, Prefilled)]
        assert progress[-1] - done <= 16
        done = progress[-1]
    loaded.backend.release(0)
    loaded.backend.release(1)


def test_events_of_a_sequence_come_in_order(loaded: Loaded) -> None:
    """Prefilled rises to the length of the prompt, then come the tokens, and only the last one has a reason."""
    events = loaded.run(spec(0, 150, 5), spec(1, 20, 5))
    mine = [event for event in events if event.seq == 0]
    prefilled = [event.done for event in mine if isinstance(event, Prefilled)]
    tokens = [event for event in mine if isinstance(event, Token)]
    assert mine == [*mine[: len(prefilled)], *tokens]
    assert prefilled == sorted(set(prefilled))
    assert prefilled[-1] == 150
    assert [token.reason for token in tokens] == [None] * 4 + ["length"]


def test_nothing_to_do(loaded: Loaded) -> None:
    """A step returns [] only when nothing runs."""
    assert loaded.step(CHUNK) == []
    loaded.backend.add(spec(0, 100, 3))
    while loaded.backend.stats().running:
        assert loaded.step(1)
    assert loaded.step(CHUNK) == []


# Endings


def test_one_token(loaded: Loaded) -> None:
    """max_tokens 1: the token that follows the prompt, and the slot is free again."""
    (token,) = [event for event in loaded.run(spec(0, 30, 1)) if isinstance(event, Token)]
    assert token == Token(0, loaded.tokens(spec(0, 30, 2))[0], "length")


def test_stop_ids_end_a_sequence(loaded: Loaded) -> None:
    """The first token in stop_ids is the last one reported, with reason "stop"; neighbours go on."""
    usual = loaded.tokens(spec(0, 30))
    stop = usual[5]
    events = loaded.run(replace(spec(0, 30), stop_ids=frozenset({stop})), spec(1, 30))
    assert tokens_of(0, events) == usual[: usual.index(stop) + 1]
    assert [event.reason for event in events if isinstance(event, Token) and event.seq == 0 and event.reason] == [
        "stop"
    ]
    assert len(tokens_of(1, events)) == 12


def test_end_tokens_do_not_stop_by_themselves(loaded: Loaded) -> None:
    """Without stop_ids a sequence goes on past the model's end token (ignore_eos)."""
    (end, *_) = loaded.info.eos
    always = Sampling(temperature=0, logit_bias={end: 1000.0})
    assert loaded.tokens(spec(0, 10, 4, always)) == [end] * 4


def test_the_context_can_be_filled(loaded: Loaded) -> None:
    """A prompt and a completion that fill the context to its last token are computed, in all slots at once."""
    length = loaded.info.context - 6
    events = loaded.run(*(spec(seq, length, 6) for seq in range(SLOTS)))
    assert [len(tokens_of(seq, events)) for seq in range(SLOTS)] == [6] * SLOTS


def test_slots_are_taken_and_given_back(loaded: Loaded) -> None:
    """free_slots counts down with add and up with every end; more sequences than slots get their turn."""
    free = []
    for seq in range(SLOTS):
        free.append(loaded.backend.free_slots())
        loaded.backend.add(spec(seq, 10, 2 + seq))
    assert free == [4, 3, 2, 1]
    assert loaded.backend.free_slots() == 0
    assert loaded.backend.stats().running == SLOTS
    waiting, events = list(range(SLOTS, 3 * SLOTS)), []
    while waiting or loaded.backend.stats().running:
        while waiting and loaded.backend.free_slots():
            loaded.backend.add(spec(waiting.pop(0), 10, 3))
        events += loaded.step(CHUNK)
    assert [len(tokens_of(seq, events)) for seq in range(SLOTS, 3 * SLOTS)] == [3] * 2 * SLOTS


@pytest.mark.parametrize("steps", [0, 1, 3, 6, 10])
def test_release_at_every_phase(loaded: Loaded, steps: int) -> None:
    """Waiting, amid its prompt or decoding: a released sequence is gone at once, and the others notice nothing."""
    other = spec(1, 25, 20)
    alone = loaded.tokens(other, chunk=32)
    loaded.backend.add(spec(0, 90, 20))
    loaded.backend.add(other)
    events = [event for _ in range(steps) for event in loaded.step(32)]
    before = loaded.backend.stats()
    loaded.backend.release(0)
    after = loaded.backend.stats()
    assert (before.running, after.running) == (2, 1)
    assert after.kv_used <= before.kv_used
    assert loaded.backend.free_slots() == SLOTS - 1
    rest = loaded.drain(32)
    assert not [event for event in rest if event.seq == 0]
    assert tokens_of(1, events + rest) == alone


def test_release_of_an_unknown_sequence(loaded: Loaded) -> None:
    """Releasing what is not there, or no longer there, does nothing."""
    loaded.backend.release(77)
    loaded.run(spec(0, 5, 1))
    loaded.backend.release(0)


def test_a_slot_remembers_nothing(loaded: Loaded) -> None:
    """A sequence in a slot that others have used says what it says in a fresh one."""
    fresh = loaded.tokens(spec(0, 10))
    loaded.run(*(spec(seq, 150, 3) for seq in range(SLOTS)))
    assert loaded.tokens(spec(0, 10)) == fresh
