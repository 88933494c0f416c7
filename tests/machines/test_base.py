"""The base of every machine is strict, and hands effects out as data."""

import pytest
from statemachine import State

from lmx.machines.base import Effect, Machine, TransitionNotAllowed
from lmx.machines.diagrams import MACHINES


class Ring(Effect, frozen=True):
    pass


class Bell(Machine):
    still = State(initial=True)
    ringing = State()

    pull = still.to(ringing)
    let_go = ringing.to(still)
    drop = ringing.to(still, on="break_it")

    def on_enter_ringing(self) -> None:
        self.emit(Ring())

    def break_it(self) -> None:
        self.emit(Ring())
        raise RuntimeError("it broke")


def test_a_step_returns_its_effects_and_forgets_them() -> None:
    """`step` returns what one event asks for, and nothing of it is left for the next."""
    bell = Bell()
    assert bell.step("pull") == (Ring(),)
    assert bell.step("let_go") == ()


def test_an_event_that_is_not_declared_here_raises_and_changes_nothing() -> None:
    """Illegal and unknown events are errors: python-statemachine's own default ignores them."""
    bell = Bell()
    for event in ("let_go", "sing"):
        with pytest.raises(TransitionNotAllowed):
            bell.step(event)
    assert bell.current == "still"


def test_a_callback_that_raises_leaves_the_state_and_no_effects() -> None:
    """An exception in a transition propagates, the state stays, and its half-made effects are gone."""
    bell = Bell()
    bell.step("pull")
    with pytest.raises(RuntimeError, match="it broke"):
        bell.step("drop")
    assert bell.current == "ringing"
    assert bell.step("let_go") == ()


def test_kind_is_the_name_for_logs_and_diagrams() -> None:
    """CrashLoopMachine is `crash_loop` wherever a machine is named."""
    assert set(MACHINES) == {"model", "loader", "admission", "crash_loop", "server", "sequence"}


@pytest.mark.parametrize("machine", MACHINES.values(), ids=list(MACHINES))
def test_every_machine_is_strict(machine: type[Machine]) -> None:
    """The three flags that python-statemachine leaves lenient are set in every machine."""
    assert machine.allow_event_without_transition is False
    assert machine.catch_errors_as_events is False
    assert machine.atomic_configuration_update is True


@pytest.mark.parametrize("machine", MACHINES.values(), ids=list(MACHINES))
def test_deadlines_name_real_states_and_legal_events(machine: type[Machine]) -> None:
    """A deadline's state exists and declares the event that the deadline feeds."""
    for state, deadline in machine.deadlines.items():
        events = {name for t in machine.states_map[state].transitions for name in t.event.split()}
        assert deadline.event in events, (state, deadline)
