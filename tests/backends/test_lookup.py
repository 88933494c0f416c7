"""Prompt lookup: what it guesses, how sure it is, and that it costs next to nothing where nothing repeats."""

from random import Random
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmx.backends.gate import REMEASURE, Gate
from lmx.backends.lookup import BULK, Lookup

DRAFT = 8


def lookup(*tokens: int, draft_tokens: int = DRAFT) -> Lookup:
    one = Lookup(draft_tokens)
    one.extend(tokens)
    return one


# --- what is guessed -------------------------------------------------------------------------------------------------


def test_what_followed_is_proposed() -> None:
    """The tokens after the earlier place, as many as asked for, at most draft_tokens."""
    one = lookup(1, 2, 3, 4, 5, 9, 9, 1, 2)
    assert one.propose(3) == [3, 4, 5]
    assert one.propose(0) == []
    assert len(lookup(*range(50), 0, 1, draft_tokens=4).propose(20)) == 4
    assert len(one) == 9


def test_nothing_repeats_nothing_is_proposed() -> None:
    """Two tokens in a row must have been there before."""
    assert lookup(1, 2, 3, 4, 2).propose(5) == []
    assert lookup().propose(5) == []
    assert lookup(1, 2, 3, 1, 2, 7).propose(5) == []


def test_the_latest_place_counts() -> None:
    """Of several places with the same ending the latest."""
    assert lookup(1, 2, 3, 1, 2, 4, 1, 2).propose(1) == [4]


def test_a_longer_ending_counts_more() -> None:
    """Four equal tokens say more than two, though they are longer ago."""
    assert lookup(5, 6, 1, 2, 3, 9, 1, 2, 4, 9, 5, 6, 1, 2).propose(1) == [3]


def test_a_loop_goes_on() -> None:
    """Where the text ends before the guess does, it is continued with itself."""
    assert lookup(1, 2, 3, 1, 2, 3, 1).propose(7) == [2, 3, 1, 2, 3, 1, 2]
    assert lookup(7, 7, 7, 7).propose(4) == [7, 7, 7, 7]


def expected(tokens: list[int], sizes: range) -> set[int]:
    """The tokens that the definition allows as the next guess, by looking everywhere."""
    for size in reversed(sizes):
        ending = tokens[-size:]
        places = [at for at in range(size, len(tokens)) if tokens[at - size : at] == ending]
        if len(tokens) >= size and places:
            return {tokens[at] for at in places}
    return set()


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), max_size=40), st.integers(0, 40))
def test_it_finds_what_looking_everywhere_finds(tokens: list[int], cut: int) -> None:
    """However the tokens come: a guess exactly where the definition has one, at a place with the longest ending."""
    one = Lookup(DRAFT)
    one.extend(tokens[:cut])
    for token in tokens[cut:]:
        one.extend([token])
    guess = one.propose(1)
    assert set(guess) <= expected(tokens, range(2, 5))
    assert bool(guess) == bool(expected(tokens, range(2, 5)))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(0, BULK))
def test_long_prompts_are_indexed_the_same(seed: int, late: int) -> None:
    """A prompt given at once and one given token by token lead to the same guess."""
    random = Random(seed)
    tokens = [random.randrange(12) for _ in range(3 * BULK)]
    bulk, single = Lookup(DRAFT), Lookup(DRAFT)
    bulk.extend(tokens[:BULK])
    bulk.extend(tokens[BULK : 3 * BULK - late])
    bulk.extend(tokens[3 * BULK - late :])
    for token in tokens:
        single.extend([token])
    assert set(bulk.propose(1)) <= expected(tokens, range(2, 5))
    assert bool(bulk.propose(1)) == bool(single.propose(1))


def test_an_index_is_cheap() -> None:
    """A long prompt takes well under a microsecond a token, a new token some microseconds."""
    random = Random(3)
    tokens = [random.randrange(30_000) for _ in range(100_000)]
    one = Lookup(DRAFT)
    began = perf_counter()
    one.extend(tokens)
    assert perf_counter() - began < 0.5
    began = perf_counter()
    for token in tokens[:2000]:
        one.extend([token])
    assert (perf_counter() - began) / 2000 < 100e-6


# --- how sure it is --------------------------------------------------------------------------------------------------


def test_odds_are_learnt_without_guessing() -> None:
    """Every token says whether it had been foreseen: where the text repeats the odds rise, else they fall."""
    nothing, fresh = lookup(1, 2, 3), lookup(1, 2, 3, 1, 2)
    assert nothing.odds(0) == 0.0
    assert fresh.odds(0) < 0.3
    assert lookup(*range(20), *range(12)).odds(0) > 0.8
    misleading = Lookup(DRAFT)
    for number in range(100, 200):
        misleading.extend([1, 2, number])
    misleading.extend([1, 2])
    assert misleading.odds(0) < 0.05


# --- whether it pays -------------------------------------------------------------------------------------------------


class Machine:
    """Generates `text` as a server would: a step costs 1, and `cost` more for each guess."""

    def __init__(self, prompt: list[int], text: list[int], cost: float = 0.25, rows: int = 1) -> None:
        self.lookup, self.gate = Lookup(DRAFT), Gate(DRAFT)
        self.lookup.extend(prompt)
        self.drafts: list[int] = []
        self.seconds = 0.0
        at = 0
        while at < len(text):
            guess = self.lookup.propose(self.gate.want(rows, self.lookup))
            right = next((n for n, token in enumerate(guess) if text[at + n : at + n + 1] != [token]), len(guess))
            new = text[at : at + right + 1]
            self.seconds += (took := 1 + cost * len(guess))
            self.gate.observe(rows, len(guess), right, took)
            self.lookup.extend(new)
            self.drafts.append(len(guess))
            at += len(new)


@pytest.mark.parametrize("vocab", [3, 30, 300, 30_000])
@pytest.mark.parametrize("cost", [0.02, 0.25, 0.9])
def test_text_that_does_not_repeat_costs_little(vocab: int, cost: float) -> None:
    """At most 3 % more than without guesses, whatever a guess costs and however often endings recur by chance."""
    random = Random(vocab)
    text = [random.randrange(vocab) for _ in range(2000)]
    assert Machine(text[:500], text[500:], cost).seconds <= 1.03 * 1500


def test_text_that_misleads_costs_little() -> None:
    """Endings that recur, and each time go on differently."""
    text = [token for number in range(400) for token in (1, 2, 3, 4, 1000 + number)]
    assert Machine([], text).seconds <= 1.03 * len(text)


def test_repeated_text_is_guessed_at_full_length_soon() -> None:
    """A prompt that is quoted: after a few tokens the guesses are as long as they may be, and time is saved."""
    random = Random(1)
    prompt = [random.randrange(30_000) for _ in range(1000)]
    machine = Machine(prompt, prompt[100:900])
    assert DRAFT in machine.drafts[:12]
    assert machine.seconds < 0.55 * 800
    assert machine.gate.speculating
    assert machine.gate.accepted > 0.9 * machine.gate.drafted > 0


def test_a_gpu_is_found_out() -> None:
    """Where guesses are nearly free, they are made with worse odds: faster than with the assumed price."""
    random = Random(4)
    prompt = [random.randrange(30_000) for _ in range(1000)]
    text = [token if random.random() < 0.9 else random.randrange(30_000) for token in prompt]
    cheap, dear = Machine(prompt, text, 0.01), Machine(prompt, text, 0.9)
    assert sum(cheap.drafts) > 2 * sum(dear.drafts)
    assert dear.seconds <= 1.03 * 1000
    assert cheap.seconds < 0.6 * 1000


def test_what_a_plain_step_costs_is_measured_again() -> None:
    """After many steps with guesses one goes without, else the comparison grows old."""
    machine = Machine(list(range(100)) * 2, list(range(100)) * 20)
    longest = max(len(run) for run in "".join("x" if draft else " " for draft in machine.drafts).split())
    assert longest <= REMEASURE


# --- without odds known beforehand (a draft model) -------------------------------------------------------------------


def drafts(gate: Gate, steps: int, chance: float, cost: float = 0.25) -> list[int]:
    """A draft model whose tokens are right so often."""
    random, wanted = Random(5), []
    for _ in range(steps):
        wanted.append(gate.want(1))
        right = next((n for n in range(wanted[-1]) if random.random() >= chance), wanted[-1])
        gate.observe(1, wanted[-1], right, 1 + cost * wanted[-1])
    return wanted


def test_a_bad_draft_model_is_hardly_asked() -> None:
    """Few short probes with growing pauses: at most 3 % of the time."""
    wanted = drafts(Gate(DRAFT), 1000, 0.05)
    assert max(wanted) <= 2
    assert sum(wanted) * 0.25 <= 0.03 * 1000
    places = [at for at, count in enumerate(wanted) if count]
    assert places[-1] - places[-2] > places[1] - places[0]


def test_a_good_draft_model_is_asked_for_more() -> None:
    """Short guesses first, full length after a few that were right."""
    wanted = drafts(Gate(DRAFT), 100, 0.98)
    assert wanted[0] <= 2
    assert DRAFT in wanted[:6]
    assert sum(wanted) > 400


def test_a_draft_model_that_gets_better_is_found_again() -> None:
    """Probes go on, so that guessing begins again within one pause."""
    gate = Gate(DRAFT)
    drafts(gate, 300, 0.0)
    assert not gate.speculating
    assert DRAFT in drafts(gate, 300, 1.0)
    assert gate.speculating


def test_many_rows_guess_less() -> None:
    """With many rows a step is dear for all and a guess helps one: the odds must be better."""
    gate, one = Gate(DRAFT), lookup(*range(20), *range(6))
    for rows in (1, 8):
        gate.observe(rows, 0, 0, 1.0)
        gate.observe(rows, 8, 8, 3.0)
    assert gate.want(1, one) > 0
    assert gate.want(8, one) == 0


def test_a_wrong_price_does_not_last() -> None:
    """A few slow steps made guessing look dear: it is tried again, and found to be cheap."""
    gate, one = Gate(DRAFT), lookup(*range(20), *range(12))
    gate.observe(1, 0, 0, 1.0)
    for _ in range(20):
        gate.observe(1, 2, 2, 9.0)
    assert gate.want(1, one) == 0
    tried = 0
    for _ in range(500):
        wanted = gate.want(1, one)
        tried += wanted > 2
        gate.observe(1, wanted, wanted, 1 + 0.05 * wanted)
    assert tried > 50


def test_steps_that_read_a_prompt_are_not_measured() -> None:
    """Their time says nothing about guesses, but the guesses count."""
    gate = Gate(DRAFT)
    gate.observe(1, 4, 4, None)
    assert (gate.drafted, gate.accepted) == (4, 4)
    assert gate.want(0) == 0
