"""Tokens to text, and stop strings."""

from hypothesis import given
from hypothesis import strategies as st

from lmx.engine.text import Detokenizer, StopFinder

BYTES = [bytes([byte]) for byte in range(256)] + [b""]


@given(st.text())
def test_text_survives_being_cut_into_bytes(text: str) -> None:
    """Whatever the tokens cut a character into, the text comes out whole, and never half a character."""
    detokenizer = Detokenizer(BYTES)
    parts = [detokenizer.feed(byte) for byte in text.encode("utf-8", "replace")]
    assert "".join(parts) + detokenizer.flush() == text.encode("utf-8", "replace").decode()
    assert "\ufffd" not in "".join(parts) or "\ufffd" in text


def test_an_unfinished_character_becomes_one_replacement_at_the_end() -> None:
    """A completion that ends inside a character ends in U+FFFD, told only when it is sure."""
    detokenizer = Detokenizer(BYTES)
    euro = "€".encode()
    assert detokenizer.feed(euro[0]) + detokenizer.feed(euro[1]) == ""
    assert detokenizer.flush() == "\ufffd"


def test_bytes_that_are_no_utf8_are_replaced_and_the_rest_goes_on() -> None:
    """A model that babbles bytes does not break the stream."""
    detokenizer = Detokenizer(BYTES)
    assert "".join(detokenizer.feed(byte) for byte in b"a\xffb") == "a\ufffdb"


@given(st.text("ab<|>", max_size=40), st.lists(st.text("ab<|>", min_size=1, max_size=5), max_size=4), st.data())
def test_nothing_of_a_stop_string_is_ever_shown(text: str, stops: list[str], data: st.DataObject) -> None:
    """However the text is cut into deltas, exactly the part before the first stop string is shown."""
    finder, shown, rest = StopFinder(stops), "", text
    while rest and not finder.found:
        cut = data.draw(st.integers(1, len(rest)))
        shown += finder.feed(rest[:cut])
        rest = rest[cut:]
    if not finder.found:
        shown += finder.flush()
    # The first stop to be complete ends the text; of those that end at the same character, the one that starts first.
    ends = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    if finder.found:
        assert any(text.startswith(stop, len(shown)) for stop in stops)
        assert not any(stop in shown for stop in stops)
    else:
        assert not ends
        assert shown == text


def test_text_that_cannot_become_a_stop_is_not_held_back() -> None:
    """Only a tail that begins a stop string waits for the next token."""
    finder = StopFinder(["</end>"])
    assert finder.feed("hello") == "hello"
    assert finder.feed(" <") == " "
    assert finder.feed("b") == "<b"
    assert finder.feed("</e") == ""
    assert finder.flush() == "</e"
