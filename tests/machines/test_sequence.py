"""The compiled table of a sequence's phases is the declared machine, only faster."""

import pytest

from lmx.machines.base import TransitionNotAllowed
from lmx.machines.sequence import OUTCOMES, TABLE, SequenceMachine

STATES = [str(state.id) for state in SequenceMachine.states]
EVENTS = sorted({event for _, event in TABLE})


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", EVENTS)
def test_table_and_machine_agree_everywhere(state: str, event: str) -> None:
    """For every state and event, the table gives what the machine does, or nothing where the machine refuses."""
    machine = SequenceMachine()
    machine.current_state_value = state
    try:
        machine.step(event)
    except TransitionNotAllowed:
        assert (state, event) not in TABLE
    else:
        assert TABLE[state, event] == machine.current


def test_an_outcome_is_the_end() -> None:
    """There are four outcomes, and nothing leads out of one."""
    assert {"finished", "refused", "failed", "cancelled"} == OUTCOMES
    assert not [key for key in TABLE if key[0] in OUTCOMES]
