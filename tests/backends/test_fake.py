"""The fake backend keeps the contract of real ones, as far as tests above the engine rely on it."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from lmx.backends.base import (
    Event,
    Handle,
    Info,
    LoadError,
    Logprob,
    Prefilled,
    Reuse,
    SeqError,
    SeqSpec,
    Snapshot,
    Token,
)
from lmx.backends.fake import EMBEDDING, FakeBackend
from lmx.backends.fake_row import EOS, VOCAB
from lmx.machines.types import ModelSpec

PROMPT = tuple(b"abcab")
HALF = -math.log(2)


class Only:
    """A mask that allows some tokens, and breaks after so many."""

    def __init__(self, allowed: Sequence[int], breaks_after: int = 99) -> None:
        self._bits = np.zeros(32 * ((VOCAB + 31) // 32), np.uint8)
        self._bits[list(allowed)] = 1
        self._breaks_after = breaks_after
        self.accepted: list[int] = []

    def allowed(self) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
        return np.packbits(self._bits, bitorder="little").view(np.uint32)

    def accept(self, token: int) -> None:
        self.accepted.append(token)

    @property
    def fault(self) -> str:
        return "It broke." if len(self.accepted) >= self._breaks_after else ""


def opened(script: str = "", slots: int = 4) -> tuple[FakeBackend, Info]:
    backend = FakeBackend()
    spec = ModelSpec(name="m", path="", backend="fake", script=script, slots=slots, context=100)
    return backend, backend.load(spec, lambda _: True)


def run(backend: FakeBackend, *specs: SeqSpec, chunk: int = 64) -> list[Event]:
    for spec in specs:
        backend.add(spec)
    events: list[Event] = []
    while step := backend.step(chunk):
        events += step
    return events


def tokens(events: list[Event]) -> list[int]:
    return [event.token for event in events if isinstance(event, Token)]


def spec(seq: int = 1, max_tokens: int = 20) -> SeqSpec:
    return SeqSpec(seq, PROMPT, max_tokens, stop_ids=frozenset({EOS}))


def test_it_echoes_and_its_slot_stays_until_it_is_released() -> None:
    """The prompt, then the end; a slot is given back by release alone."""
    backend, info = opened()
    assert tokens(run(backend, spec())) == [*PROMPT, EOS]
    assert backend.free_slots() == info.slots - 1
    assert backend.release(1) is None
    assert backend.release(1) is None
    assert (backend.free_slots(), backend.stats().kv_used) == (info.slots, 0)


def test_a_burst_is_several_tokens_and_none_after_the_end() -> None:
    """As guessed tokens that were right."""
    backend, _ = opened("burst=4")
    backend.add(spec())
    backend.step(64)
    assert [len(tokens(backend.step(64))) for _ in range(3)] == [4, 2, 0]


def test_min_tokens_goes_round_again() -> None:
    """No stop token is chosen before them."""
    backend, _ = opened()
    assert tokens(run(backend, replace(spec(), min_tokens=7))) == [*PROMPT, *PROMPT[:2], EOS]
    early = replace(spec(2), stop_ids=frozenset({ord("b")}), min_tokens=2)
    assert tokens(run(backend, early))[:3] == [ord("a"), 0, ord("c")]


def test_a_mask_is_obeyed() -> None:
    """The echo where it is allowed, else the lowest token; the mask hears every token."""
    backend, _ = opened()
    mask = Only(b"cbx")
    events = run(backend, replace(spec(max_tokens=3), mask=mask))
    assert bytes(tokens(events)) == b"bbc"
    assert mask.accepted == tokens(events)


@pytest.mark.parametrize(("mask", "why"), [(Only(b""), "allows no token"), (Only(b"a", 1), "It broke.")])
def test_a_mask_that_cannot_go_on_fails_its_sequence(mask: Only, why: str) -> None:
    """That sequence alone is gone, as after release."""
    backend, info = opened()
    (error,) = [event for event in run(backend, replace(spec(), mask=mask)) if isinstance(event, SeqError)]
    assert why in error.message
    assert backend.free_slots() == info.slots


def test_logprobs_are_known_beforehand() -> None:
    """-ln 2 for what it wants, then less for each next id; `top` begins with what it wants."""
    backend, _ = opened()
    events = run(backend, replace(spec(max_tokens=1), logprobs=2, mask=Only([1])))
    (token,) = [event for event in events if isinstance(event, Token)]
    assert token.logprob == Logprob(1, -3 * math.log(2), ((ord("a"), HALF), (0, 2 * HALF)))
    probabilities = [0.5 ** (rank + 1) for rank in range(VOCAB)]
    assert sum(probabilities) == pytest.approx(1)


@pytest.mark.parametrize("chunk", [1, 2, 64])
def test_a_prompts_logprobs_come_once_each(chunk: int) -> None:
    """Over all chunks the whole prompt, nothing for its first token; max_tokens 0 ends there."""
    backend, _ = opened()
    events = run(backend, replace(spec(max_tokens=0), prompt_logprobs=True, logprobs=1), chunk=chunk)
    told = [logprob for event in events if isinstance(event, Prefilled) for logprob in event.logprobs]
    assert [logprob.token for logprob in told] == list(PROMPT)
    assert told[0] == Logprob(PROMPT[0], None)
    assert told[1].top == ((ord("a"), HALF),)
    assert tokens(events) == []


def kept(backend: FakeBackend) -> Handle:
    """Everything but the newest token of a finished sequence."""
    run(backend, spec(7, 3))
    handle = backend.release(7, keep=True)
    assert handle is not None
    return handle


def test_what_is_kept_is_not_read_again() -> None:
    """Any beginning of it; `cached` says how much. It is there until it is dropped or given away."""
    backend, _ = opened()
    handle = kept(backend)
    assert handle.tokens == len(PROMPT) + 2
    events = run(backend, replace(spec(), reuse=Reuse(handle, 3)))
    assert [event for event in events if isinstance(event, Prefilled)] == [Prefilled(1, 5, 3)]
    assert tokens(events) == [*PROMPT, EOS]
    run(backend, replace(spec(2), reuse=Reuse(handle, 4, whole=True)))
    assert backend.kept == set()


def test_wrong_reuse_is_the_engines_fault() -> None:
    """Another prompt's tokens, too many of them, or what was dropped: never served silently."""
    backend, _ = opened()
    handle = kept(backend)
    wrong = [replace(spec(), prompt=tuple(b"xbcab"), reuse=Reuse(handle, 3)), replace(spec(), reuse=Reuse(handle, 5))]
    for one in wrong:
        with pytest.raises(ValueError, match="cannot be reused"):
            backend.add(one)
    backend.drop(handle)
    with pytest.raises(ValueError, match="cannot be reused"):
        backend.add(replace(spec(), reuse=Reuse(handle, 3)))


def test_snapshots_are_made_at_checkpoints_and_reused_whole() -> None:
    """As of models whose state cannot be cut."""
    backend, info = opened("prefix=snapshot")
    events = run(backend, replace(spec(), checkpoints=(2, 4)), chunk=3)
    handles = [event.handle for event in events if isinstance(event, Snapshot)]
    assert (info.prefix, [handle.tokens for handle in handles]) == ("snapshot", [2, 4])
    run(backend, replace(spec(2), reuse=Reuse(handles[1], 4)))
    with pytest.raises(ValueError, match="cannot be reused"):
        backend.add(replace(spec(3), reuse=Reuse(handles[1], 3)))


def test_nothing_is_kept_where_nothing_can_be() -> None:
    """prefix=none: no handle at all."""
    backend, info = opened("prefix=none")
    run(backend, spec())
    assert (info.prefix, backend.snapshot(1), backend.release(1, keep=True)) == ("none", None, None)


def test_a_handle_survives_as_bytes() -> None:
    """save and restore; bytes of another length are refused."""
    backend, _ = opened()
    handle = kept(backend)
    data = memoryview(b"".join(backend.save(handle)))
    again = backend.restore(data, handle.tokens)
    assert again is not None
    assert tokens(run(backend, replace(spec(), reuse=Reuse(again, 4)))) == [*PROMPT, EOS]
    assert backend.restore(data, handle.tokens + 1) is None


def test_embeddings_and_scores_are_of_unit_length_and_repeatable() -> None:
    """One row for each prompt."""
    backend, info = opened()
    rows = backend.embed([PROMPT, (1, 2, 3)])
    assert rows.shape == (2, EMBEDDING) == (2, info.embedding)
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1, 1])
    assert list(backend.score([(1, 2), (1, 1)])) == [0, 0.5]


def test_a_script_with_an_unknown_word_is_refused() -> None:
    """A typing error in a test must not look like a passing one."""
    with pytest.raises(LoadError, match="'stpe'"):
        opened("stpe=1")
