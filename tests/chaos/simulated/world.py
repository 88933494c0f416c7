"""Time, threads and chance of a simulated daemon: one thread, a clock that jumps, and a seed for all that is random.

The actors are the real ones. They are made but not started: their inboxes are emptied here, in an order that the seed
chooses (messages of one inbox keep theirs). While any inbox holds a message no time passes; then the clock jumps to
what is due next.
"""

import heapq
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any, TypeVar

from lmx.actors.base import Actor, Address
from lmx.actors.messages.ref import Ref

M = TypeVar("M")
START = 1_700_000_000.0
AT_ONCE = 50_000
"""Messages that follow from one event, at most."""


class Violation(AssertionError):
    """Something happened that must never happen."""


class World:
    """The `Clock` and `Timers` ports, and everybody's threads."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.now = 0.0
        self.woke_at = -1000.0
        """When all of it last went on after a time in which nobody did anything."""
        self.actors: list[Actor[Any]] = []
        self.delivered = 0
        self.after_each: Callable[[str], None] = lambda _: None
        """Called after every message with the name of the actor that had it; raises Violation."""
        self.broken: Violation | None = None
        """What was found first. An actor would survive it, for it survives everything."""
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._order = count()

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return START + self.now

    def after(self, seconds: float, ref: Ref[M], message: M) -> None:
        self.later(seconds, lambda: ref.tell(message))

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        heapq.heappush(self._due, (self.now + seconds, next(self._order), act))

    def violated(self, what: str) -> None:
        """It must never have happened; found inside of what an actor does."""
        self.broken = self.broken or Violation(what)
        raise self.broken

    def start(self, kind: type[Actor[Any]], *arguments: Any) -> Address[Any]:
        """What `kind.start(…)` is elsewhere."""
        actor = kind(*arguments)
        actor.on_start()
        self.actors.append(actor)
        return Address(actor.actor_ref)

    def actor(self, name: str) -> Any:
        return next(actor for actor in self.actors if actor.name == name)

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        end = self.now + seconds
        while True:
            self.settle()
            if not self._due or self._due[0][0] > end:
                break
            due, _, act = heapq.heappop(self._due)
            self.now = max(self.now, due)
            act()
        self.now = max(self.now, end)

    def oversleep(self, seconds: float) -> None:
        """So much time passes, and nobody does anything in it."""
        self.now += seconds
        self.woke_at = self.now

    def settle(self) -> None:
        """Deliver messages until no inbox holds any."""
        most = self.delivered + AT_ONCE
        while waiting := [actor for actor in self.actors if not actor.actor_inbox.empty()]:
            actor = waiting[0] if len(waiting) == 1 else self.random.choice(waiting)
            actor.on_receive(actor.actor_inbox.get().message)
            self.delivered += 1
            self.after_each(actor.name)
            if self.broken is not None:
                raise self.broken
            if self.delivered > most:
                raise Violation(f"{actor.name} and others talk for ever, and no time passes")
