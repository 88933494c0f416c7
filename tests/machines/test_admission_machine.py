"""Admission: pressure with hysteresis, and who is refused."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmx.machines.admission import AdmissionMachine, Limits, judge, pressure
from lmx.machines.types import RefusalKind

LIMITS = Limits(max_in_flight=16, throttle_at=8, per_client=4)


def follow(loads: list[int]) -> list[str]:
    """The states that a course of loads leads through."""
    machine, states = AdmissionMachine(), []
    for load in loads:
        event = pressure(machine.current, load, LIMITS)
        if event is not None:
            machine.step(event)
        states.append(machine.current)
    return states


def test_load_rises_and_falls() -> None:
    """Throttled from 8, shedding at 16, and back only well below each threshold."""
    assert follow([7, 8, 16, 15, 14, 7, 6, 5]) == [
        "open", "throttled", "shedding", "shedding", "throttled", "throttled", "throttled", "open",
    ]  # fmt: skip


@given(st.lists(st.sampled_from([7, 8]), min_size=20, max_size=20))
def test_noise_around_the_threshold_moves_it_once(loads: list[int]) -> None:
    """Flapping by one request changes the state at most once."""
    states = follow(loads)
    assert sum(a != b for a, b in pairwise(states)) <= 1


def test_drained_as_soon_as_nothing_is_in_flight() -> None:
    """Draining ends with the last request, and admission stays closed."""
    machine = AdmissionMachine()
    machine.step("drain")
    assert pressure("draining", 1, LIMITS) is None
    assert pressure("draining", 0, LIMITS) == "drained"
    machine.step("drained")
    refusal = judge(machine.current, 0, 0, 1.0, LIMITS)
    assert refusal is not None
    assert refusal.kind is RefusalKind.DRAINING


def test_a_full_queue_says_when_to_come_back() -> None:
    """Shedding refuses with a Retry-After that follows from how long requests take."""
    slow, fast = judge("shedding", 16, 1, 30.0, LIMITS), judge("shedding", 16, 1, 2.0, LIMITS)
    assert slow is not None
    assert fast is not None
    assert slow.kind is RefusalKind.QUEUE_FULL
    assert (slow.retry_after, fast.retry_after) == (30.0, 2.0)


def test_a_throttled_server_takes_from_everybody_but_the_greedy() -> None:
    """While throttled, a client at its share is refused and another one is not."""
    assert judge("throttled", 9, 4, 1.0, LIMITS) is not None
    assert judge("throttled", 9, 3, 1.0, LIMITS) is None
    assert judge("open", 7, 7, 1.0, LIMITS) is None


@pytest.mark.parametrize("most", [1, 2, 3, 16])
def test_an_idle_server_is_open_again_whatever_its_limits(most: int) -> None:
    """No limit is so small that admission stays closed when nothing is in flight."""
    limits = Limits(max_in_flight=most, throttle_at=most, per_client=1)
    machine = AdmissionMachine()
    machine.step("shed")
    while (event := pressure(machine.current, 0, limits)) is not None:
        machine.step(event)
    assert machine.current == "open"
