"""The base of every machine is strict, and hands effects out as data."""

from types import UnionType
from typing import Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from statemachine import State

from lmx.machines import record
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
    assert Bell.kind() == "bell"
    assert {"model", "loader", "admission", "crash_loop", "server", "sequence"} <= set(MACHINES)
    assert all(machine.kind() == kind for kind, machine in MACHINES.items())


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


class Bare(Machine):
    only = State(initial=True)
    stay = only.to.itself(internal=True)


LIBRARY = frozenset(vars(Bare())) - {"only"}
"""What python-statemachine and the base keep in every machine."""


@pytest.mark.parametrize("machine", MACHINES.values(), ids=list(MACHINES))
def test_a_machine_remembers_nothing_that_it_does_not_tell(machine: type[Machine]) -> None:
    """State and memory are all there is of a machine: a replay has nothing else."""
    born = machine()
    states = {str(state.id) for state in machine.states}
    assert set(vars(born)) - LIBRARY - states == set(machine.remembers)


VALUES: dict[object, st.SearchStrategy[object]] = {
    float: st.sampled_from((0.0, 0.25, 1.0, 31.0, 130.0)),
    int: st.integers(0, 5),
    bool: st.booleans(),
    str: st.sampled_from(("", "It died.", "crash", "wedge")),
    dict: st.just({}),
}


def value(hint: object) -> st.SearchStrategy[object]:
    """Anything that a hook may be given."""
    if get_origin(hint) in (Union, UnionType):
        return st.one_of([value(kind) for kind in get_args(hint)])
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if get_origin(hint) is tuple:
        kind, *others = get_args(hint)
        if others != [...]:
            return st.tuples(value(kind), *map(value, others))
        return st.lists(value(kind), max_size=2).map(tuple)
    if isinstance(hint, type) and issubclass(hint, Struct):
        return st.builds(hint, **{name: value(kind) for name, kind in get_type_hints(hint).items()})
    return VALUES[hint] if hint in VALUES else st.from_type(hint)  # type: ignore[arg-type]


@pytest.mark.parametrize("machine", MACHINES.values(), ids=list(MACHINES))
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_machine_can_be_revived_at_any_moment(machine: type[Machine], data: st.DataObject) -> None:
    """One that is made of state and memory, as JSON keeps them, goes the same way, with the same effects."""
    events = sorted({name for state in machine.states for t in state.transitions for name in t.event.split()})
    hints = {
        name: kind for name, kind in record.arguments(machine).items() if name not in ("reason", "return", "event")
    }
    born = machine()
    for _ in range(8):
        event = data.draw(st.sampled_from(events))
        told = {name: data.draw(value(kind), name) for name, kind in hints.items()}
        before = record.stepped(born, ())
        again = machine.revived(before.target, before.memory)
        assert again.current == born.current
        try:
            effects = born.step(event, reason="Because.", **told)
        except TransitionNotAllowed:
            with pytest.raises(TransitionNotAllowed):
                record.step(again, event, "Because.", record.plain(told))
            break  # what a guard or a hook did before it was refused is undone by the actor that starts over
        assert record.step(again, event, "Because.", record.plain(told)) == record.stepped(born, effects)


def test_a_machine_cannot_be_revived_in_a_state_that_it_does_not_have() -> None:
    """A journal of other machines is no journal of these."""
    with pytest.raises(ValueError, match="no state 'swinging'"):
        Bell.revived("swinging", {})
