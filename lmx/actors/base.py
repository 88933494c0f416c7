"""What every actor has: a typed inbox that survives a crash of its handler, and a machine that is fed events."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar

import pykka
import structlog

from lmx.actors.messages import journal, state, supervisor
from lmx.actors.messages.anyone import Ping
from lmx.actors.messages.ref import Ref
from lmx.actors.ports import Clock, Timers
from lmx.actors.scribe import Scribe
from lmx.machines.base import Effect, Machine

M = TypeVar("M")
P = ParamSpec("P")
R = TypeVar("R")
Log = structlog.stdlib.BoundLogger


@dataclass(frozen=True)
class House:
    """What every actor is given."""

    journal: Ref[journal.Message]
    state: Ref[state.Message]
    supervisor: Ref[supervisor.Message]
    timers: Timers
    clock: Clock
    strict: bool = False
    """True, for tests: what the journal could not replay is an error at once."""


class Address(Generic[M]):
    """A Ref to a pykka actor."""

    def __init__(self, actor: "pykka.ActorRef[Any]") -> None:
        self._actor = actor

    def tell(self, message: M) -> None:
        try:
            self._actor.tell(message)
        except pykka.ActorDeadError:
            structlog.get_logger().debug("told_the_dead", message=type(message).__qualname__)

    def stop(self, timeout: float) -> bool:
        """End the actor after what is in its inbox; False when it did not end in time."""
        try:
            self._actor.stop(timeout=timeout)
        except pykka.Timeout:
            return False
        return True


class Actor(pykka.ThreadingActor, Generic[M]):
    """A thread with an inbox.

    A handler that raises loses its message and its state, never its inbox: `clean_up` ends what the actor owes to
    others, `set_up` starts over, and the supervisor decides whether that happened too often.
    """

    use_daemon_thread = True

    @staticmethod
    def _create_actor_inbox() -> Any:
        """A queue.Queue takes twice as long for a round trip."""
        return SimpleQueue()

    def __init__(self, name: str, supervisor: Ref[supervisor.Message]) -> None:
        super().__init__()
        self.name = name
        self.log: Log = structlog.get_logger().bind(actor=name)
        self._supervisor = supervisor

    @property
    def myself(self) -> Ref[M]:
        return Address(self.actor_ref)

    def set_up(self) -> None:
        """Make the state from nothing; called in the actor's thread."""

    def clean_up(self) -> None:
        """Settle what is owed to others; called before a restart and at the end."""

    def lost(self, message: M) -> None:
        """Tell whoever waits for an answer to this message, whose handler raised; called before `clean_up`."""

    @abstractmethod
    def receive(self, message: M) -> None:
        """Handle one message: a total `match` that ends in assert_never."""

    def on_start(self) -> None:
        self.set_up()

    def on_stop(self) -> None:
        self.clean_up()

    def on_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._supervisor.tell(supervisor.Lost(self.name, f"{exception_value!r}"))

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, Ping):
            message.answered()
            return
        try:
            self.receive(message)
        except BaseException as error:  # the supervision boundary: pykka would kill this actor, or all of them
            self.log.exception("actor_crashed", message=type(message).__qualname__)
            self._start_over(message, error)

    def _start_over(self, message: M, error: BaseException) -> None:
        self.lost(message)
        self.clean_up()
        self.set_up()
        self._supervisor.tell(supervisor.Crashed(self.name, f"{type(error).__name__}: {error}"))


class MachineActor(Actor[M]):
    """An actor that owns one machine."""

    machine: Machine

    def __init__(self, name: str, house: House, late: Callable[[int, str], M]) -> None:
        """`late(generation, event)` makes the message that a state's deadline sends to this actor."""
        super().__init__(name, house.supervisor)
        self.house = house
        self._late = late
        self._generation = 0
        self._due = 0.0
        self._scribe = Scribe(name, house.journal, house.clock, strict=house.strict)

    @abstractmethod
    def make_machine(self) -> Machine: ...

    @abstractmethod
    def perform(self, effect: Effect) -> None:
        """Do what the machine wants done."""

    def set_up(self) -> None:
        self.machine = self.make_machine()
        self._generation += 1
        self._scribe.started(self.machine)
        self._set_deadline()

    def feed(self, event: str, reason: str = "", **data: Any) -> None:
        """Step the machine, journal the event, set the new state's deadline, perform the effects.

        `data` must be what msgspec encodes, and decodes by the types that the machine's hooks give to these names.
        """
        source = self.machine.current
        effects = self._scribe.step(self.machine, event, reason, data)
        if source != self.machine.current:
            self._generation += 1
            self._set_deadline()
        for effect in effects:
            self.perform(effect)

    def schedule(self, seconds: float, event: str) -> None:
        """Feed `event` in `seconds`, unless the state changes before."""
        self.house.timers.after(seconds, self.myself, self._late(self._generation, event))

    def timed_out(self, generation: int, event: str) -> None:
        """What the late message's handler calls."""
        if generation == self._generation:
            state, deadline = self.machine.current, self.machine.deadline()
            limit = f" for {deadline.seconds:g} s" if deadline is not None and deadline.event == event else ""
            self.feed(event, f"It was {state}{limit}.")

    def extend_deadline(self, seconds: float) -> None:
        """The present state may last so much longer; what else was scheduled in it is dropped."""
        deadline = self.machine.deadline()
        if deadline is not None:
            self._generation += 1
            self._due += seconds
            self.schedule(max(0.0, self._due - self.house.clock.monotonic()), deadline.event)

    def _set_deadline(self) -> None:
        deadline = self.machine.deadline()
        if deadline is not None:
            self._due = self.house.clock.monotonic() + deadline.seconds
            self.schedule(deadline.seconds, deadline.event)

    def decide(self, policy: Callable[P, R], *args: P.args, **inputs: P.kwargs) -> R:
        """Ask a pure function of lmx.machines, by keywords only, and journal what it was asked and what it said."""
        return self._scribe.ask(policy, *args, **inputs)

    def note(self, **facts: journal.Fact) -> None:
        self.house.journal.tell(journal.Noted(self.name, facts))
