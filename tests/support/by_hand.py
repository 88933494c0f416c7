"""Time that passes when a test says so."""

from heapq import heappop, heappush
from itertools import count
from typing import Any

from lmx.actors.messages.ref import Ref


class TimeByHand:
    """A clock, and timers by it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked: list[float] = []
        """The seconds of every timer that was set."""
        self._heap: list[tuple[float, int, Ref[Any], Any]] = []
        self._order = count()

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def after(self, seconds: float, ref: Ref[Any], message: Any) -> None:
        self.asked.append(seconds)
        heappush(self._heap, (self.now + seconds, next(self._order), ref, message))

    def passes(self, seconds: float) -> None:
        """Tell what is due meanwhile, each at its time."""
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end:
            self.now, _, ref, message = heappop(self._heap)
            ref.tell(message)
        self.now = end

    def __len__(self) -> int:
        """Timers that have not gone off."""
        return len(self._heap)
