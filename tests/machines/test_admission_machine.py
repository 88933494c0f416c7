"""Admission: pressure with hysteresis, and who is refused."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lmx.machines.admission import AdmissionMachine, Ask, Limits, duplicate, judge, pressure, wait_seconds
from lmx.machines.types import RefusalKind

LIMITS = Limits(queue=16, queue_per_client=6, max_in_flight=32)
QUIET = Ask(
    waits=True,
    batch=False,
    in_flight=8,
    waiting=4,
    waiting_batch=0,
    of_client=2,
    clients=1,
    ahead=4,
    seconds_each=2.0,
    at_once=4,
)


def follow(loads: list[int]) -> list[str]:
    """The states that a course of waiting requests leads through."""
    machine, states = AdmissionMachine(), []
    for load in loads:
        while (event := pressure(machine.current, load, load, LIMITS)) is not None:
            machine.step(event)
        states.append(machine.current)
    return states


def test_load_rises_and_falls() -> None:
    """Throttled from half a queue on, shedding when it is full, and back only well below each threshold."""
    assert follow([7, 8, 16, 15, 14, 7, 6, 5]) == [
        "open", "throttled", "shedding", "shedding", "throttled", "throttled", "throttled", "open",
    ]  # fmt: skip


def test_too_many_that_do_not_wait_are_too_many_as_well() -> None:
    """Clients who read slowly hold places: the limit of all requests sheds by itself."""
    assert pressure("open", 32, 0, LIMITS) == "shed"
    assert pressure("shedding", 31, 0, LIMITS) is None
    assert pressure("shedding", 29, 0, LIMITS) == "ease"


@given(st.lists(st.sampled_from([7, 8]), min_size=20, max_size=20))
def test_noise_around_the_threshold_moves_it_once(loads: list[int]) -> None:
    """Flapping by one request changes the state at most once."""
    states = follow(loads)
    assert sum(a != b for a, b in pairwise(states)) <= 1


def test_drained_as_soon_as_nothing_is_in_flight() -> None:
    """Draining ends with the last request, and admission stays closed."""
    machine = AdmissionMachine()
    machine.step("drain")
    assert pressure("draining", 1, 0, LIMITS) is None
    assert pressure("draining", 0, 0, LIMITS) == "drained"
    machine.step("drained")
    refusal = judge(machine.current, False, replace(QUIET, waits=False), LIMITS)
    assert refusal is not None
    assert refusal.kind is RefusalKind.DRAINING


NO, FULL = None, RefusalKind.QUEUE_FULL
CASES: list[tuple[str, dict[str, Any], RefusalKind | None]] = [
    ("open", {}, NO),
    ("open", {"of_client": 5}, NO),
    ("open", {"of_client": 6}, FULL),  # its own bound
    ("open", {"of_client": 2, "batch": True}, NO),
    ("open", {"of_client": 3, "batch": True}, FULL),  # half of it
    ("open", {"waiting": 15, "clients": 9}, NO),
    ("open", {"waiting": 16, "clients": 9}, FULL),  # that of all
    ("throttled", {"of_client": 2, "clients": 3}, NO),
    ("throttled", {"of_client": 4, "clients": 3}, FULL),  # an equal part
    ("throttled", {"of_client": 0, "clients": 40}, NO),  # which is one at least
    ("throttled", {"waiting": 12, "waiting_batch": 8, "batch": True, "of_client": 0}, FULL),  # half is for batch
    ("throttled", {"waiting": 12, "waiting_batch": 8, "of_client": 0}, NO),
    ("shedding", {"of_client": 0}, FULL),
    ("shedding", {"waits": False}, NO),  # another model is idle
    ("open", {"waits": False, "in_flight": 32}, FULL),
    ("draining", {"waits": False}, RefusalKind.DRAINING),
    ("closed", {"waits": False}, RefusalKind.DRAINING),
]


@pytest.mark.parametrize(("state", "fields", "expected"), CASES)
def test_who_is_taken(state: str, fields: dict[str, Any], expected: RefusalKind | None) -> None:
    """One request more or less decides at every bound."""
    refusal = judge(state, False, replace(QUIET, **fields), LIMITS)
    assert (refusal.kind if refusal is not None else None) == expected


def test_short_memory_refuses_everybody() -> None:
    """With the seconds after which memory is looked at again; not when the server stops anyway."""
    refusal = judge("open", True, replace(QUIET, waits=False), LIMITS)
    assert refusal is not None
    assert (refusal.kind, refusal.retry_after) == (RefusalKind.MEMORY_PRESSURE, 10.0)
    late = judge("draining", True, QUIET, LIMITS)
    assert late is not None
    assert late.kind is RefusalKind.DRAINING


def test_a_full_queue_says_when_to_come_back() -> None:
    """The Retry-After follows from how many are ahead, how long they take and how many go on side by side."""
    full = replace(QUIET, of_client=0, ahead=40)
    slow, fast = (judge("shedding", False, replace(full, seconds_each=each), LIMITS) for each in (4.0, 0.5))
    assert slow is not None
    assert fast is not None
    assert (slow.retry_after, fast.retry_after) == (40.0, 5.0)


def test_a_client_with_too_many_waits_for_its_own_only() -> None:
    """Its next place is free when one of its own is served, not when all of the queue is."""
    refusal = judge("open", False, replace(QUIET, of_client=6, ahead=15, clients=1, waiting=15), LIMITS)
    assert refusal is not None
    assert refusal.retry_after == 12 * 2.0 / 4


@pytest.mark.parametrize(("ahead", "each", "at_once", "expected"), [(0, 9, 4, 1), (8, 3, 4, 6), (999, 9, 1, 60)])
def test_a_retry_after_is_one_to_sixty_seconds(ahead: int, each: float, at_once: int, expected: float) -> None:
    """SDKs honour it up to two minutes, and at once is never true."""
    assert wait_seconds(ahead, each, at_once) == expected


def test_only_a_retry_supersedes() -> None:
    """B100: anything else with a key that is at work is a mistake."""
    assert (duplicate(retry=True), duplicate(retry=False)) == ("supersede", "refuse")


@pytest.mark.parametrize("most", [1, 2, 3, 16])
def test_an_idle_server_is_open_again_whatever_its_limits(most: int) -> None:
    """No limit is so small that admission stays closed when nothing is in flight."""
    limits = Limits(queue=most, queue_per_client=1, max_in_flight=most)
    machine = AdmissionMachine()
    machine.step("shed")
    while (event := pressure(machine.current, 0, 0, limits)) is not None:
        machine.step(event)
    assert machine.current == "open"
