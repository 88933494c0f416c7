"""How many a model is given at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmx.machines.concurrency import MOST, SPARE, Concurrency, Window, follow
from tests.support.rush import Rush

CROWD = [f"c{number}" for number in range(64)]


def settled(rush: Rush, begin: float, end: float) -> set[int]:
    return {limit for at, limit in rush.limits if begin <= at < end}


def goodput(rush: Rush) -> int:
    return sum(map(len, rush.served.values()))


def test_all_slots_are_used_at_once_and_refilled_without_a_round_trip() -> None:
    """With 16 slots, 16 requests need not wait for each other, and two more stand ready."""
    assert Concurrency(16).limit >= 18
    assert Concurrency(1).limit >= 3


def test_the_limit_settles_when_a_crowd_comes() -> None:
    """T-NFLX: from 1 to 64 clients; within 10 s it is at most 2 above the 4 slots, and stays there."""
    rush = Rush()
    rush.join("c0")
    rush.run(10)
    rush.join(*CROWD[1:])
    rush.run(60)
    assert settled(rush, 20, 70) == {6}


def test_goodput_is_that_of_the_best_fixed_limit() -> None:
    """T-NFLX: at least nine tenths of it, from the first second on."""

    def crowded(fixed: int | None) -> int:
        rush = Rush(fixed=fixed)
        rush.join(*CROWD)
        rush.run(60)
        return goodput(rush)

    best = max(crowded(fixed) for fixed in (1, 2, 4, 5, 6, 8, 12, 16))
    assert crowded(None) >= 0.9 * best


def test_the_limit_recovers_when_the_crowd_leaves() -> None:
    """T-NFLX: with one client left, it is back where it began within 10 s."""
    rush = Rush()
    rush.join(*CROWD)
    rush.run(60)
    assert rush.limit == 6
    rush.leave(*CROWD[1:])
    rush.run(20)
    assert rush.limit == 8


def test_short_answers_raise_it() -> None:
    """Where a sequence is over as soon as it has begun, waiting inside the engine costs little: more are let in."""
    rush = Rush(prefill=0.1, decode=0.0, travel=0.05)
    rush.join(*CROWD)
    rush.run(60)
    assert rush.limit > 8
    slow = Rush(prefill=0.1, decode=0.0, travel=0.05, fixed=6)
    slow.join(*CROWD)
    slow.run(60)
    assert goodput(rush) > goodput(slow)


def test_interactive_requests_succeed_while_batch_floods() -> None:
    """T-NFLX: 10 times as many batch clients; nine tenths of the interactive ones, at least, do not wait too long."""
    rush = Rush(patience=5.0)
    batch = [f"b{number}" for number in range(40)]
    rush.join(*CROWD[:4])
    rush.join(*batch, priority="batch")
    rush.run(120)
    good = len(list(rush.times(*CROWD[:4])))
    bad = sum(rush.failed.get(name, 0) for name in CROWD[:4])
    assert good >= 0.9 * (good + bad)
    assert len(list(rush.times(*batch))) >= 0.25 * goodput(rush)


def test_accepted_requests_of_a_crowd_wait_for_the_others_and_not_for_themselves() -> None:
    """Once it has settled, a sequence that is given to the engine waits there for half a turn at most."""
    rush = Rush()
    rush.join(*CROWD)
    rush.run(60)
    inside = 0.5 * (rush.prefill + rush.decode) + rush.prefill + 2 * rush.travel
    turns = 64 / rush.slots * (rush.prefill + rush.decode)
    last = [list(rush.times(name))[-1] for name in CROWD]
    assert max(last) <= turns + inside


def test_short_memory_halves_it() -> None:
    """While memory is short, half the slots must do, and one is always there."""
    limits = Concurrency(8)
    limits.pressed = True
    assert limits.limit == 4
    limits.pressed = False
    assert limits.limit == 16
    small = Concurrency(1)
    small.pressed = True
    assert small.limit == 1


@pytest.mark.parametrize(
    ("limit", "window", "expected"),
    [
        (8.0, Window(0.0, 0.0, False), 8.0),  # nothing is known
        (6.0, Window(1.0, 0.0, False), 7.0),  # nobody waited inside: back to the first one
        (12.0, Window(1.0, 0.0, True), 12.0),  # and no further
        (8.0, Window(1.0, 8.0, True), 7.0),  # they wait for long
        (6.0, Window(1.0, 8.0, True), 6.0),  # all slots and two
        (8.0, Window(1.0, 1.5, True), 9.0),  # hardly, and more are wanted
        (8.0, Window(1.0, 1.5, False), 8.0),  # hardly, but nobody wants more
        (16.0, Window(1.0, 1.5, True), 16.0),  # four times the slots
    ],
)
def test_where_it_goes(limit: float, window: Window, expected: float) -> None:
    """One step for each case, with 4 slots."""
    assert follow(limit, 4, window) == expected


@given(
    slots=st.integers(1, 64),
    windows=st.lists(st.builds(Window, st.floats(0, 1), st.floats(0, 10), st.booleans()), max_size=60),
)
def test_it_never_leaves_its_bounds(slots: int, windows: list[Window]) -> None:
    """Whatever is measured: all slots and two, up to four times the slots."""
    limits = Concurrency(slots)
    for window in windows:
        limits.exact = follow(limits.exact, slots, window)
        assert slots + SPARE <= limits.limit <= max(MOST * slots, slots + SPARE)
