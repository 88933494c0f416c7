"""The one base of every machine: strict where python-statemachine is lenient, effects as data."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import msgspec
from msgspec import Struct
from statemachine import StateChart
from statemachine.exceptions import TransitionNotAllowed

__all__ = ["Deadline", "Effect", "Machine", "TransitionNotAllowed"]


class Effect(Struct, frozen=True):
    """Something a machine wants done by its actor."""


class Deadline(Struct, frozen=True):
    """How long a state may last, and the event that ends it."""

    seconds: float
    event: str


class Machine(StateChart[Any]):
    """A declared lifecycle: states on top, transitions below, `on_enter_*` hooks that only `emit`.

    An event that is not declared for the current state raises TransitionNotAllowed and changes nothing.
    """

    # The library's defaults ignore unknown events, and swallow a callback's exception while still moving.
    allow_event_without_transition = False
    catch_errors_as_events = False
    atomic_configuration_update = True
    # An internal transition is a reaction without a move: neither exit nor entry.
    enable_self_transition_entries = False

    deadlines: ClassVar[dict[str, Deadline]] = {}
    """State → deadline; a state that waits for somebody else has one."""

    remembers: ClassVar[Mapping[str, Any]] = {}
    """What it knows besides its state: attribute → type. Nothing else may be kept: a replay has only this."""

    def __init__(self, **kwargs: Any) -> None:
        self._effects: list[Effect] = []
        super().__init__(**kwargs)
        self._effects.clear()

    @classmethod
    def kind(cls) -> str:
        """Its name in logs, metrics and diagrams: CrashLoopMachine → crash_loop."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__.removesuffix("Machine")).lower()

    def emit(self, *effects: Effect) -> None:
        self._effects.extend(effects)

    def step(self, event: str, **data: Any) -> tuple[Effect, ...]:
        """Feed one event and return what is to be done. Raises TransitionNotAllowed."""
        try:
            self.send(event, **data)
            return tuple(self._effects)
        finally:
            self._effects.clear()

    @property
    def current(self) -> str:
        """The id of the state it is in."""
        return str(next(iter(self.configuration)).id)

    def legal(self) -> tuple[str, ...]:
        """Events that may come next, guards not considered."""
        return tuple(dict.fromkeys(str(event.id) for event in self.allowed_events))

    def deadline(self) -> Deadline | None:
        """Of the state it is in."""
        return self.deadlines.get(self.current)

    def memory(self) -> dict[str, Any]:
        """What it remembers, by attribute: with its state, all there is of it."""
        return {name: getattr(self, name) for name in self.remembers}

    @classmethod
    def revived(cls, state: str, memory: Mapping[str, Any]) -> Self:
        """One that is in `state` and has a `memory` that went through JSON; no effects come of it.

        Raises ValueError for a state that it does not have, and for a memory that does not fit.
        """
        machine = cls()
        machine.recall(state, memory)
        return machine

    def recall(self, state: str, memory: Mapping[str, Any]) -> None:
        """`revived`, for one that has just been made."""
        if state not in self.states_map:
            raise ValueError(f"machine {self.kind()} has no state {state!r}")
        self.current_state_value = state
        for name, kind in self.remembers.items():
            if name in memory:
                setattr(self, name, msgspec.convert(memory[name], kind, str_keys=True))
