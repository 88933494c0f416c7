"""One thing at a time to be reminded of: the earliest of what was asked for."""

from collections.abc import Callable
from math import inf
from typing import Generic, TypeVar

from lmx.actors.messages.ref import Ref
from lmx.actors.ports import Clock, Timers

M = TypeVar("M")

SOONEST = 0.01
"""Seconds; a ring that comes a rounding error too early may be asked for again."""


class Alarm(Generic[M]):
    """Used by the thread of its owner, who is told `ring(number)`; numbers go on, so that late rings are known."""

    def __init__(self, timers: Timers, clock: Clock, owner: Ref[M], ring: Callable[[int], M]) -> None:
        self._timers = timers
        self._clock = clock
        self._owner = owner
        self._ring = ring
        self._number = 0
        self._due = inf

    def at(self, due: float) -> None:
        """Ring at `due`, by the monotonic clock, if nothing is to ring before."""
        if due < self._due:
            self._due = due
            self._number += 1
            seconds = max(SOONEST, due - self._clock.monotonic())
            self._timers.after(seconds, self._owner, self._ring(self._number))

    def rang(self, number: int) -> bool:
        """Whether this is the ring that was waited for; then nothing is to ring any more."""
        if number != self._number:
            return False
        self._due = inf
        return True
