"""The memory ledger's arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmx.machines.memory import Evict, Fits, Line, TooBig, correction, cure, figures, has_room, plan

GB = 10**9


def test_what_fits_is_loaded() -> None:
    """Enough free memory within the budget: go."""
    assert plan(need=5, free=10, budget=9, held={}, idle_first=[]) == Fits()


def test_the_budget_binds_even_when_the_machine_has_more() -> None:
    """Models together never hold more than the configured share."""
    assert isinstance(plan(need=5, free=100, budget=9, held={"a": 6}, idle_first=[]), TooBig)


def test_the_longest_unused_goes_first_and_no_more_than_needed() -> None:
    """Evict from the front of the list, and stop as soon as it fits."""
    held = {"old": 2, "middle": 3, "new": 4}
    assert plan(need=6, free=2, budget=100, held=held, idle_first=list(held)) == Evict(("old", "middle"))


def test_nobody_goes_in_vain() -> None:
    """Who was longest unused stays when the next one's memory is enough alone; nobody goes when it is not enough."""
    held = {"old": 2, "middle": 5, "new": 4}
    assert plan(need=5, free=0, budget=100, held=held, idle_first=list(held)) == Evict(("middle",))
    assert plan(need=50, free=0, budget=100, held=held, idle_first=list(held)) == TooBig(11, 50, 100)


def test_a_refusal_shows_its_figures() -> None:
    """What is needed, what could be free, of what, and who holds the rest and why it stays."""
    lines = {
        "a": Line(reserved=2 * GB, use="busy"),
        "b": Line(reserved=9 * GB, peak=1_100_000_000, now=GB, use="idle"),
    }
    text = figures(TooBig(3 * GB, 5_100_000_000, 21_600_000_000), lines)
    assert text == (
        "It needs 5.1 GB; 3.0 GB could be free of the 21.6 GB that lmx may use; held: a 2.0 GB (busy), b 4.5 GB (idle)."
    )
    assert figures(TooBig(0, 2 * GB, GB), {}).endswith("1.0 GB that lmx may use.")


@given(
    need=st.integers(0, 50),
    free=st.integers(0, 60),
    budget=st.integers(0, 60),
    sizes=st.dictionaries(st.text(min_size=1, max_size=2), st.integers(0, 20), max_size=5),
    data=st.data(),
)
def test_nothing_busy_is_evicted_and_what_is_granted_fits(
    need: int, free: int, budget: int, sizes: dict[str, int], data: st.DataObject
) -> None:
    """Only idle models are chosen, none of them without need; after the plan the load stays within what there is."""
    idle = data.draw(st.lists(st.sampled_from(sorted(sizes)), unique=True)) if sizes else []
    decided = plan(need=need, free=free, budget=budget, held=sizes, idle_first=idle)

    def fits(gone: int) -> bool:
        return need + sum(sizes.values()) - gone <= budget and need <= free + gone

    match decided:
        case Fits():
            assert fits(0)
        case Evict(models):
            assert set(models) <= set(idle)
            gone = sum(sizes[model] for model in models)
            assert fits(gone)
            assert not any(fits(gone - sizes[model]) for model in models)
        case TooBig():
            assert not fits(sum(sizes[model] for model in idle))


@pytest.mark.parametrize(
    ("line", "held", "promised"),
    [
        (Line(reserved=10), 10, 0),
        (Line(reserved=10, peak=8, now=6), 8, 2),
        (Line(reserved=10, peak=2, now=2), 5, 3),
        (Line(reserved=10, peak=30, now=30), 30, 0),
    ],
)
def test_a_measurement_takes_over_from_the_reservation(line: Line, held: int, promised: int) -> None:
    """The peak counts, down to half of what was reserved; what is held but not taken is promised."""
    assert (line.held, line.promised) == (held, promised)


def test_an_estimate_is_corrected_within_bounds() -> None:
    """By the last load: between half of it and four times as much; no measurement, no correction."""
    assert [correction(measured=m, estimated=10) for m in (1, 8, 12, 100, 0)] == [0.5, 0.8, 1.2, 4.0, 1.0]
    assert correction(measured=5, estimated=0) == 1.0


IDLE = Line(reserved=4, peak=4, now=4, use="idle")
BUSY = Line(reserved=4, peak=5, now=5, use="busy")
GREW = Line(reserved=4, peak=9, now=9, use="busy")
SHRANK = Line(reserved=4, peak=9, now=5, use="busy")


@pytest.mark.parametrize(
    ("refusals", "seconds", "lines", "chosen"),
    [
        (4, 600.0, {"a": IDLE}, None),
        (50, 59.0, {"a": IDLE}, None),
        (5, 60.0, {"a": IDLE, "b": BUSY}, "a"),
        (5, 60.0, {"a": IDLE, "b": GREW}, "b"),
        (5, 60.0, {"b": BUSY, "c": SHRANK}, None),
        (5, 60.0, {}, None),
    ],
)
def test_a_guard_that_refuses_for_long_starts_somebody_afresh(
    refusals: int, seconds: float, lines: dict[str, Line], chosen: str | None
) -> None:
    """After so many refusals over so long: who grew beyond what was reserved, or else who is idle; never the busy."""
    assert cure(refusals=refusals, seconds=seconds, lines=lines) == chosen


def test_a_sequence_needs_room_for_all_its_tokens() -> None:
    """Prompt and completion, by what a token takes."""
    assert has_room(tokens=10, bytes_per_token=100, free=1000)
    assert not has_room(tokens=11, bytes_per_token=100, free=1000)
