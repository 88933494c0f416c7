"""An alias on its way from one model to another."""

import pytest

from lmx.machines.swap import (
    Hold,
    LoadNew,
    LoadOld,
    Release,
    RouteToNew,
    SwapMachine,
    TellMoved,
    TellStayed,
    UnloadNew,
    UnloadOld,
)

WHY = "It did not fit."


def walked(*events: str) -> tuple[SwapMachine, list[tuple[object, ...]]]:
    """A machine after these events, and the effects of each."""
    machine = SwapMachine()
    return machine, [machine.step(event, reason=WHY) for event in events]


def test_the_new_model_is_ready_before_the_old_one_goes() -> None:
    """The alias is routed to the new one first, and whoever asked is told when the old one is gone."""
    machine, effects = walked("swap", "new_ready", "old_gone")
    assert effects == [(LoadNew(),), (RouteToNew(), UnloadOld()), (TellMoved(),)]
    assert machine.current == "steady"


def test_a_new_model_that_fails_changes_nothing() -> None:
    """The old one serves as before: there is nothing to roll back."""
    machine, effects = walked("swap", "new_failed")
    assert effects[1] == (TellStayed(WHY),)
    assert machine.current == "steady"


def test_where_both_do_not_fit_requests_are_held_while_one_goes_and_the_other_comes() -> None:
    """One after the other: nobody is refused meanwhile."""
    machine, effects = walked("swap", "no_room", "old_gone", "new_ready")
    assert effects[1:] == [(Hold(), UnloadOld()), (LoadNew(),), (RouteToNew(), Release(), TellMoved())]
    assert machine.current == "steady"


@pytest.mark.parametrize("end", ["old_ready", "old_failed", "timed_out"])
def test_a_failed_serial_swap_is_rolled_back(end: str) -> None:
    """The old model comes back, what was held is served, and whoever asked is told the first reason."""
    machine = SwapMachine()
    for event in ("swap", "no_room", "old_gone"):
        machine.step(event, reason="")
    assert machine.step("new_failed", reason=WHY) == (LoadOld(),)
    assert machine.step(end, reason="later") == (Release(), TellStayed(WHY))
    assert machine.current == "steady"


def test_no_state_but_steady_lasts_for_ever() -> None:
    """Every wait has a deadline, and each deadline an event that is declared."""
    names = {str(state.id) for state in SwapMachine.states}
    assert set(SwapMachine.deadlines) == names - {"steady"}
    machine, _ = walked("swap")
    assert machine.step("timed_out", reason=WHY) == (UnloadNew(), TellStayed(WHY))
