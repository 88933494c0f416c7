"""A sequence's tokens as text and log-probabilities."""

import math

from lmx.machines.types import Text
from tests.support.engine import EngineBench


def texts(bench: EngineBench, seq: int) -> str:
    return b"".join(one.text for one in bench.logprobs[seq]).decode()


def test_every_token_of_the_text_has_its_log_probability() -> None:
    """The end token belongs to no text and has none."""
    bench = EngineBench()
    bench.answer(1, Text("hello"), logprobs=3)
    told = bench.logprobs[1]
    assert (texts(bench, 1), len(told)) == ("hello", 5)
    assert all(one.logprob is not None and math.isclose(one.logprob, -math.log(2)) for one in told)
    assert all(len(one.top) == 3 and one.top[0].token == one.token for one in told)


def test_what_a_stop_string_eats_has_no_log_probabilities() -> None:
    """Text and log-probabilities end at the same place."""
    bench = EngineBench()
    assert bench.answer(1, Text("one two"), logprobs=0, stop=(" t",)) == "one"
    assert texts(bench, 1) == "one"


def test_what_was_held_back_in_vain_comes_with_its_log_probabilities() -> None:
    """A beginning of a stop string that was none is told in the end."""
    bench = EngineBench()
    assert bench.answer(1, Text("one t"), logprobs=0, stop=(" tw",)) == "one t"
    assert texts(bench, 1) == "one t"


def test_guessed_tokens_after_the_end_are_nobody_s() -> None:
    """Several tokens may come in one step; those after a stop string are dropped."""
    bench = EngineBench("burst=4")
    assert bench.answer(1, Text("abcdefgh"), stop=("cd",)) == "ab"
    assert bench.backend.stats().running == 0
    assert bench.tokens[1] <= 4


def test_log_probabilities_of_a_character_in_pieces_come_with_the_text() -> None:
    """The bytes of all tokens make the whole character."""
    bench = EngineBench()
    assert bench.answer(1, Text("é!"), logprobs=0) == "é!"
    assert texts(bench, 1) == "é!"
