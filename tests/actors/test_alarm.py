"""One timer stands for many times, and late rings are nobody's."""

from lmx.actors.alarm import SOONEST, Alarm
from tests.support.by_hand import TimeByHand
from tests.support.inbox import Inbox


def alarm() -> tuple[Alarm[int], TimeByHand, Inbox[int]]:
    time, owner = TimeByHand(), Inbox[int]()
    return Alarm(time, time, owner, int), time, owner


def test_it_rings_at_the_earliest_time() -> None:
    """However many were asked for; the timer of a later one that was set before says nothing any more."""
    set_, time, owner = alarm()
    for due in (1030.0, 1010.0, 1020.0):
        set_.at(due)
    time.passes(15.0)
    assert set_.rang(owner.messages[-1])
    time.passes(60.0)
    assert not set_.rang(owner.messages[-1])
    assert len(owner.messages) == 2


def test_it_can_be_set_again_once_it_rang() -> None:
    """Also to a later time."""
    set_, time, owner = alarm()
    set_.at(1010.0)
    time.passes(10.0)
    assert set_.rang(owner.messages[-1])
    set_.at(1500.0)
    time.passes(490.0)
    assert set_.rang(owner.messages[-1])
    assert len(owner.messages) == 2


def test_a_thousand_later_times_take_no_timers() -> None:
    """Each request that comes is due later than the one before."""
    set_, time, _ = alarm()
    for late in range(1000):
        set_.at(1600.0 + late)
    assert len(time) == 1


def test_what_is_due_already_rings_soon_but_not_at_once() -> None:
    """Who is told a rounding error too early and asks again must not go round for ever at the same moment."""
    set_, time, _ = alarm()
    set_.at(999.0)
    assert time.asked == [SOONEST]
