"""The engine's step, on the fake backend: schedule, run, postprocess."""

import pytest

from lmx.machines import frames
from lmx.machines.frames import Finish
from lmx.machines.types import Chat, Generation, Prompt, RefusalKind, Sampling, Text, Tokens
from tests.support.engine import EngineBench


def test_every_sequence_gets_its_own_text() -> None:
    """More sequences than slots: each is answered with its own prompt, and no slot stays taken."""
    bench = EngineBench(slots=3)
    for seq in range(1, 11):
        bench.insert(seq, f"number {seq} says {seq * '!'}")
    bench.run()
    assert bench.texts == {seq: f"number {seq} says {seq * '!'}" for seq in range(1, 11)}
    assert bench.backend.stats().running == bench.backend.stats().kv_used == 0


def test_usage_counts_what_was_computed() -> None:
    """Completion tokens include the end token, and end at max_tokens."""
    bench = EngineBench()
    bench.insert(1, "hello")
    bench.insert(2, "hello", max_tokens=3)
    bench.run()
    assert (bench.tokens, bench.texts[2]) == ({1: 6, 2: 3}, "hel")
    assert {seq: finish.reason for seq, finish in bench.finished.items()} == {1: "stop", 2: "length"}


def test_a_stop_string_ends_the_sequence_and_frees_its_slot() -> None:
    """The text ends before the stop string, which is told, and the backend stops computing."""
    bench = EngineBench()
    bench.insert(1, "one two three", stop=(" th",))
    bench.run()
    assert bench.texts[1] == "one two"
    assert bench.finished[1] == Finish("stop", stop=" th")
    assert bench.backend.stats().running == 0


def test_ignore_eos_runs_to_max_tokens() -> None:
    """The end token does not end a sequence that ignores it."""
    bench = EngineBench()
    bench.insert(1, "ab", ignore_eos=True, max_tokens=5)
    bench.run()
    assert (bench.tokens[1], bench.finished[1].reason) == (5, "length")


def test_decoding_goes_on_while_a_long_prompt_is_read() -> None:
    """Each step decodes first and then reads one bounded chunk: every step brings the running one its token."""
    bench = EngineBench()
    bench.insert(1, "x" * 100)
    while not bench.order:
        bench.step()
    bench.insert(2, "y" * 80)
    for _ in range(10):
        step = bench.step()
        assert any(did.seq == 1 and did.n_tokens for did in step.seqs)
    assert bench.tokens.get(2, 0) == 0
    bench.step()
    assert bench.tokens[2] == 1


def test_a_cancel_frees_its_slot_at_once_and_nobody_hears_of_it_again() -> None:
    """Cancelled while waiting, reading or decoding, a sequence is gone; the others go on."""
    bench = EngineBench(slots=2)
    for seq in (1, 2, 3):
        bench.insert(seq, f"{seq}" * 20)
    bench.step()
    bench.step()
    bench.engine.cancel(1)
    bench.engine.cancel(3)
    bench.engine.cancel(99)
    assert bench.backend.stats().running == 1
    before = bench.texts.get(1, "")
    bench.run()
    assert bench.texts.get(1, "") == before
    assert 3 not in bench.texts
    assert bench.texts[2] == "2" * 20


def test_an_error_of_one_is_not_the_others() -> None:
    """A sequence that cannot go on ends with the reason, and only that one."""
    bench = EngineBench("error=token:3")
    bench.insert(1, "abcdef")
    bench.insert(2, "a")
    bench.run()
    assert bench.finished == {1: Finish("error", "the script says so"), 2: Finish("stop")}
    assert bench.texts == {1: "ab", 2: "a"}


def test_every_token_is_reported() -> None:
    """The canary compares tokens, and another worker may have to go on with them."""
    bench = EngineBench()
    bench.insert(1, "ab", audit=True)
    bench.insert(2, "ab")
    ids: dict[int, tuple[int, ...]] = {}
    while not bench.engine.idle:
        for did in bench.step().seqs:
            ids[did.seq] = ids.get(did.seq, ()) + did.token_ids
    assert ids == {1: (97, 98, 256), 2: (97, 98, 256)}


@pytest.mark.parametrize(
    ("prompt", "fields", "kind", "param", "words"),
    [
        (Text(""), {}, RefusalKind.INVALID_PROMPT, "prompt", "empty"),
        (Chat(({"role": "user", "content": ""},)), {}, RefusalKind.INVALID_PROMPT, "messages", "empty"),
        (Tokens((1, 257)), {}, RefusalKind.INVALID_PROMPT, "prompt", "0 … 256"),
        (Tokens((-1,)), {}, RefusalKind.INVALID_PROMPT, "prompt", "0 … 256"),
        (Text("a"), {"sampling": Sampling(logit_bias={257: 1.0})}, RefusalKind.INVALID_PROMPT, "logit_bias", "256"),
        (
            Text("a" * 40),
            {"max_tokens": 61},
            RefusalKind.CONTEXT_LENGTH_EXCEEDED,
            "prompt",
            "maximum context length is 100 tokens. However, you requested 101 tokens (40 in the prompt, 61 in",
        ),
        (
            Chat(({"role": "user", "content": "a" * 100},)),
            {},
            RefusalKind.CONTEXT_LENGTH_EXCEEDED,
            "messages",
            "your messages resulted in 100 tokens",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(
    prompt: Prompt, fields: dict[str, object], kind: RefusalKind, param: str, words: str
) -> None:
    """The engine never sees a prompt that is empty, out of the vocabulary, or too long for the context."""
    generation = Generation(prompt=prompt, **fields)  # type: ignore[arg-type]
    rejected = EngineBench(context=100).intake.prepare(frames.Insert(1, generation))
    assert isinstance(rejected, frames.Rejected)
    assert (rejected.refusal.kind, rejected.refusal.param) == (kind, param)
    assert words in rejected.refusal.message


def test_a_prompt_that_fills_the_context_but_for_one_token_is_served() -> None:
    """Without max_tokens a sequence gets the room that is left."""
    bench = EngineBench(context=100)
    bench.insert(1, "a" * 99, ignore_eos=True)
    bench.run()
    assert (bench.tokens[1], bench.finished[1].reason) == (1, "length")


def test_only_what_nobody_should_wait_for_is_urgent() -> None:
    """A prompt's progress, a first token and an end are told at once; tokens in between may be told together."""
    bench = EngineBench()
    bench.insert(1, "abcd")
    urgent = []
    while not bench.engine.idle:
        step = bench.step()
        urgent.append((bench.engine.urgent, sum(did.n_tokens for did in step.seqs)))
    assert urgent == [(True, 0), (True, 1), (False, 1), (False, 1), (False, 1), (True, 1)]
