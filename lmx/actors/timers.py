"""One thread that tells messages later; the only place where time passes by itself."""

import heapq
import threading
from collections.abc import Callable
from itertools import count
from typing import TypeVar

from lmx.actors.messages.ref import Ref
from lmx.actors.ports import Clock

M = TypeVar("M")


class TimerThread:
    """The `Timers` port on a real clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="timers", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def after(self, seconds: float, ref: Ref[M], message: M) -> None:
        with self._changed:
            due, order = self._clock.monotonic() + seconds, next(self._order)
            heapq.heappush(self._heap, (due, order, lambda: ref.tell(message)))
            if self._heap[0][1] == order:  # else the thread sleeps until something earlier
                self._changed.notify()

    def _run(self) -> None:
        while (fire := self._next()) is not None:
            fire()

    def _next(self) -> Callable[[], None] | None:
        """Wait for the next message that is due; None when stopped."""
        with self._changed:
            while not self._stopped:
                wait = self._heap[0][0] - self._clock.monotonic() if self._heap else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._heap)[2]
                self._changed.wait(wait)
            return None
