"""Steps a machine and asks policies, and tells the journal all that a replay needs to do it again."""

from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import structlog

from lmx.actors.messages import journal
from lmx.actors.messages.ref import Ref
from lmx.actors.ports import Clock
from lmx.machines import record
from lmx.machines.base import Effect, Machine
from lmx.machines.record import CannotRecordError, Stepped

P = ParamSpec("P")
R = TypeVar("R")


class Scribe:
    """Of one actor. What it cannot write down it names and leaves out; a strict one raises, for it is a bug."""

    def __init__(self, actor: str, journal: Ref[journal.Message], clock: Clock, *, strict: bool) -> None:
        self._actor = actor
        self._journal = journal
        self._clock = clock
        self._strict = strict
        self._log = structlog.get_logger().bind(actor=actor)
        self._known: Stepped | None = None
        """The machine as the journal knows it."""
        self._twin: tuple[Machine, dict[str, Any]] | None = None
        """Another one of its kind, for replays, and what it was when it was made: making one takes milliseconds."""

    def started(self, machine: Machine) -> None:
        self._known, exact = self._outcome(machine, ())
        self._tell(machine, "", "", "started", {}, self._known, exact)

    def step(self, machine: Machine, event: str, reason: str, data: Mapping[str, Any]) -> tuple[Effect, ...]:
        """Raises TransitionNotAllowed, and CannotRecordError in a strict house."""
        before, (told, plain) = self._known, self._plain(event, data)
        source = machine.current
        self._check_untouched(machine)
        effects = machine.step(event, reason=reason, **data)
        self._known, exact = self._outcome(machine, effects)
        if self._strict and before is not None:
            self._check_step(type(machine), before, event, reason, told)
        self._tell(machine, event, source, reason, told, self._known, plain and exact)
        return effects

    def ask(self, policy: Callable[P, R], *args: P.args, **inputs: P.kwargs) -> R:
        """Raises what the policy raises, and CannotRecordError in a strict house."""
        name = f"{policy.__module__}.{policy.__qualname__}"
        told, plain = self._plain(name, inputs)
        outcome = policy(*args, **inputs)
        said, exact = self._said(name, outcome)
        if self._strict:
            self._check_decision(name, args, told, said)
        self._journal.tell(
            journal.Decided(
                actor=self._actor,
                policy=name,
                inputs=told,
                outcome=said,
                at=self._clock.time(),
                exact=plain and exact and not args,
            )
        )
        return outcome

    def _plain(self, what: str, values: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """The values as they are now, for whoever is given them may change them; False: only their types."""
        if not values:
            return {}, True
        try:
            told: dict[str, Any] = record.plain(values)
        except CannotRecordError as error:
            self._complain(what, error)
            return {name: type(value).__name__ for name, value in values.items()}, False
        if self._strict and (secret := next(record.secrets(values), "")):
            raise CannotRecordError(f"{self._actor}: {what} is given a {secret}, which holds what users wrote.")
        return told, True

    def _outcome(self, machine: Machine, effects: tuple[Effect, ...]) -> tuple[Stepped, bool]:
        try:
            return record.stepped(machine, effects), True
        except CannotRecordError as error:
            self._complain(machine.kind(), error)
            return Stepped(machine.current, [type(effect).__name__ for effect in effects], {}), False

    def _said(self, what: str, outcome: object) -> tuple[Any, bool]:
        try:
            return record.named(outcome), True
        except CannotRecordError as error:
            self._complain(what, error)
            return type(outcome).__name__, False

    def _complain(self, what: str, error: CannotRecordError) -> None:
        if self._strict:
            raise CannotRecordError(f"{self._actor}: {what} cannot be journalled: {error}") from error
        self._log.warning("not_journalled", what=what, error=str(error))

    def _check_untouched(self, machine: Machine) -> None:
        """A machine changes by its events only."""
        if self._strict and self._known is not None:
            now = record.stepped(machine, ())
            if (now.target, now.memory) != (self._known.target, self._known.memory):
                raise CannotRecordError(f"{self._actor}: without an event, {self._known} has become {now}.")

    def _check_step(self, machine: type[Machine], before: Stepped, event: str, reason: str, told: Any) -> None:
        try:
            again = record.step(self._revived(machine, before), event, reason, told)
        except (TypeError, ValueError) as error:
            raise CannotRecordError(f"{self._actor}: {event} cannot be replayed: {error}") from error
        if again != self._known:
            raise CannotRecordError(f"{self._actor}: {event} led to {self._known}, but replayed it leads to {again}.")

    def _revived(self, kind: type[Machine], before: Stepped) -> Machine:
        if self._twin is None or type(self._twin[0]) is not kind:
            made = kind()
            self._twin = made, dict(vars(made))
        twin, pristine = self._twin
        vars(twin).clear()
        vars(twin).update(pristine)
        twin.recall(before.target, before.memory)
        return twin

    def _check_decision(self, policy: str, args: tuple[object, ...], told: Mapping[str, Any], said: object) -> None:
        if args:
            raise CannotRecordError(f"{self._actor}: {policy} is to be asked by keywords only.")
        try:
            again = record.ask(policy, told)
        except (TypeError, ValueError, LookupError) as error:
            raise CannotRecordError(f"{self._actor}: {policy} cannot be asked again: {error}") from error
        if again != said:
            raise CannotRecordError(f"{self._actor}: {policy} said {said}, but asked again it says {again}.")

    def _tell(
        self, machine: Machine, event: str, source: str, reason: str, data: Any, outcome: Stepped, exact: bool
    ) -> None:
        self._journal.tell(
            journal.Transition(
                actor=self._actor,
                machine=machine.kind(),
                event=event,
                source=source,
                target=outcome.target,
                at=self._clock.time(),
                legal=machine.legal(),
                reason=reason,
                data=data,
                effects=tuple(outcome.effects),
                memory=outcome.memory,
                exact=exact,
            )
        )
