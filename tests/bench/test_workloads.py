"""The arithmetic of workloads, on numbers whose result is known."""

import json

import pytest

from lmx.bench.lab import text
from lmx.bench.wire import Answer
from lmx.bench.workloads import WORKLOADS
from lmx.bench.workloads.chats import Agent, Agents, Turns
from lmx.bench.workloads.constrained import SCHEMA, Json, matches, together
from lmx.bench.workloads.lookup import TOKENS, prompts
from lmx.bench.workloads.overhead import Overhead
from lmx.bench.workloads.prefix import Prefix
from lmx.bench.workloads.restart import Restart
from lmx.bench.workloads.rows import Conc8
from lmx.bench.workloads.stall import Stall, gaps_within


def answer(*stamps: float, tokens: int | None = None, prompt: int = 0, cached: int = 0) -> Answer:
    count = len(stamps) if tokens is None else tokens
    return Answer(sent=0.0, ended=stamps[-1], stamps=list(stamps), tokens=count, prompt=prompt, cached=cached)


def test_speed_is_time_by_the_bare_loops_rates_over_time() -> None:
    """100 prompt tokens at 0.01 s and 9 steps of 0.1 s are 1.9 s."""
    facts = {"prompt_tokens": 100.0, "steps": 9.0, "seconds": 3.8}
    assert Conc8().ratios(facts, {"read_token": 0.01, "step": 0.1}) == {"speed": pytest.approx(0.5)}


def test_the_longest_pause_counts_where_the_prompt_was_read() -> None:
    """Also a pause that began before it or ended after it."""
    stream = answer(0.0, 0.1, 1.0, 1.2, 3.0, 9.0)
    assert gaps_within(stream, 0.5, 2.0) == pytest.approx([0.9, 0.2, 1.8])
    assert gaps_within(stream, 9.0, 10.0) == pytest.approx([6.0, 0.0])


def test_stall_compares_with_the_promise_and_with_silence() -> None:
    """On a CPU 250 ms are promised."""
    facts = {"gap": 0.5, "ttft_beside": 6.0, "ttft_alone": 4.0}
    assert Stall().ratios(facts, {}) == {"gap": 2.0, "ttft": 1.5}


def test_shares_and_quotients() -> None:
    """Every workload yields the ratios that it announces."""
    assert Prefix().ratios({"ttft": 3.0}, {"ttft": 2.0}) == {"ttft": 1.5}
    assert Restart().ratios({"ttft_known": 1.0, "ttft_new": 4.0}, {}) == {"ttft": 0.25}
    assert Turns().ratios({"reused_tokens": 9.0, "reusable_tokens": 10.0}, {}) == {"reused": 0.9}
    facts = {"cpu_microseconds_per_token": 100.0, "added_ttft": 0.002}
    ratios = Overhead().ratios(facts, {"batch_token": 0.001, "single_token": 0.004})
    assert ratios == {"cpu": pytest.approx(0.1), "ttft": pytest.approx(0.5)}
    for kind in (Prefix, Restart, Turns, Agents, Overhead):
        assert WORKLOADS[kind.name] is kind


def test_an_agents_reusable_tokens_are_those_of_its_last_prompt() -> None:
    """The first turn can only reuse what another agent had."""
    agent = Agent("a", "shared")
    agent.turns += [answer(1.0, prompt=100), answer(1.0, prompt=150), answer(1.0, prompt=210)]
    assert agent.reusable(60) == [60, 100, 150]


def test_throughput_is_that_of_the_time_when_all_rows_write() -> None:
    """From 2 to 4 the first row has two chunks of two tokens, the second two of one."""
    rows = [answer(1, 2, 3, 4, 5, tokens=10), answer(2, 3, 4)]
    assert together(rows) == pytest.approx((2 * 2 + 2) / 2)


def test_a_reply_is_held_against_the_schema() -> None:
    """Not only against JSON."""
    item = {"name": "abcd", "count": 1, "found": True}
    good = {"title": "x" * 8, "kind": "small", "items": [item] * 4}
    assert matches(json.dumps(good))
    assert not matches(json.dumps(good | {"kind": "huge"}))
    assert not matches(json.dumps(good)[:-1])
    assert SCHEMA["required"] == ["title", "kind", "items"]
    assert Json().ratios({"json_tokens_per_second": 9.0, "plain_tokens_per_second": 10.0, "valid_share": 1.0}, {}) == {
        "speed": 0.9,
        "valid": 1.0,
    }


def test_the_lookup_prompts_hold_what_their_names_say() -> None:
    """`repeat` holds the answer, `other` none of its pairs, `misled` all of its triples with other ends."""
    circle = list(range(1000))
    made = prompts(circle, "seed")
    answer_ = circle[1 : TOKENS + 1]
    assert made["repeat"][:TOKENS] == answer_
    assert not set(answer_) & set(made["other"])
    pairs = {tuple(made["misled"][at : at + 4]) for at in range(len(made["misled"]) - 3)}
    assert not [at for at in range(TOKENS) if tuple(circle[at : at + 4]) in pairs]
    assert {prompt[-1] for prompt in made.values()} == {circle[0]}


def test_texts_are_new_for_a_new_seed_only() -> None:
    """All servers get the same text, and no round the one of another."""
    assert text(50, "a") == text(50, "a") != text(50, "b")
    assert len(text(50, "a").split()) == 50
