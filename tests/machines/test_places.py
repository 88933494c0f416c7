"""Places of who stopped waiting."""

import time

from lmx.machines.places import KEPT_SECONDS, REMEMBERED, Places
from lmx.machines.types import Chat, Generation, Text

ASKED, OTHER = (Generation(prompt=Text(text)) for text in ("a", "b"))


def test_the_same_request_finds_its_place_once() -> None:
    """Of the same client, for the same model; another client or text has none."""
    places = Places()
    places.leave("me", "m", ASKED, 7, 0.0)
    assert places.take("you", "m", ASKED, 1.0) == 0
    assert places.take("me", "n", ASKED, 1.0) == 0
    assert places.take("me", "m", OTHER, 1.0) == 0
    assert places.take("me", "m", ASKED, 1.0) == 7
    assert places.take("me", "m", ASKED, 1.0) == 0


def test_of_several_the_first_one_counts() -> None:
    """Whoever gives up twice has waited since the first time."""
    places = Places()
    for place in (7, 9, 8):
        places.leave("me", "m", ASKED, place, 0.0)
    assert places.take("me", "m", ASKED, 1.0) == 7


def test_places_are_kept_for_a_while_and_not_without_end() -> None:
    """Nobody comes back after a minute, and no flood of cancels fills the memory."""
    places = Places()
    places.leave("me", "m", ASKED, 7, 0.0)
    assert places.take("me", "m", ASKED, KEPT_SECONDS) == 0
    for number in range(1000):
        places.leave(f"c{number}", "m", ASKED, number, 0.0)
        assert len(places) <= REMEMBERED
    assert places.take("c999", "m", ASKED, 0.0) == 999
    assert places.take("c0", "m", ASKED, 0.0) == 0


def test_a_huge_request_holds_nobody_up() -> None:
    """The actor that admits everybody spends milliseconds on it; its length and both its ends tell it from others."""

    def huge(*, last: str = "z", count: int = 100_000) -> Generation:
        message = {"role": "user", "content": [{"type": "text", "text": "abc"}] * 1000 + [{"type": "image"}]}
        messages = tuple([message] * (count // 1000) + [{"role": "user", "content": "b" * 10_000_000 + last}])
        return Generation(prompt=Chat(messages, images=(b"x" * 30_000_000, last.encode())))

    asked, again, other, shorter, places = huge(), huge(), huge(last="y"), huge(count=99_000), Places()
    before = time.thread_time()
    places.leave("me", "m", asked, 7, 0.0)
    assert places.take("me", "m", other, 1.0) == places.take("me", "m", shorter, 1.0) == 0
    assert places.take("me", "m", again, 1.0) == 7
    assert time.thread_time() - before < 0.25
