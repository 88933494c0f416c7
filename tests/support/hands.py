"""A clock whose hands a test moves, with the timers that hang on it."""

import threading
from collections.abc import Callable
from typing import TypeVar

from lmx.actors.messages.ref import Ref

M = TypeVar("M")


class Hands:
    """The ports `Clock` and `Timers`."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self.behind = 0.0
        """Seconds by which the clock of the day was set back."""
        self._due: list[tuple[float, Callable[[], None]]] = []
        self._changed = threading.Condition()

    def monotonic(self) -> float:
        return self._now

    def time(self) -> float:
        return self._now - self.behind

    def after(self, seconds: float, ref: Ref[M], message: M) -> None:
        with self._changed:
            self._due.append((self._now + seconds, lambda: ref.tell(message)))
            self._changed.notify_all()

    def pass_time(self, seconds: float, *, timers: int = 0) -> None:
        """Wait until so many timers are set, let the time pass, and tell what is due."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._due) >= timers, 10.0), self._due
            self._now += seconds
            due = [tell for at, tell in self._due if at <= self._now]
            self._due = [(at, tell) for at, tell in self._due if at > self._now]
        for tell in due:
            tell()
