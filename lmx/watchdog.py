"""An OS thread that asks the event loop and the actors every second, and ends the process when one stops answering.

A process that hangs looks alive to its service manager, which sees exits only. Workers die with it: their sockets end.
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NoReturn

import structlog

from lmx import logs
from lmx.actors.messages.anyone import Ping
from lmx.actors.messages.ref import Ref
from lmx.actors.ports import Timers
from lmx.notify import Notify

STUCK = 70
"""Exit code (EX_SOFTWARE): the service manager starts lmx again."""
INTERVAL = 1.0
"""Seconds from one look to the next."""
LATE = 2 * INTERVAL
"""A look that comes so long after the one before: it was the watchdog that slept, and it starts over."""
LAST_WORDS_SECONDS = 2.0

Ask = Callable[[Callable[[], None]], None]
"""Has something call `answered()`, in its own thread, and does not wait for it."""


class Witness:
    """One that is asked. Answers come from its own thread."""

    def __init__(self, ask: Ask, clock: Callable[[], float]) -> None:
        self._ask = ask
        self._clock = clock
        self._lag = 0.0
        self.forgive()

    def forgive(self) -> None:
        """It owes no answer any more."""
        self._unanswered = 0
        self._since: float | None = None

    def question(self, now: float) -> None:
        if self._since is None:
            self._since = now
        self._unanswered += 1
        self._ask(partial(self._answered, now))

    def silence(self, now: float) -> float:
        """Seconds for which it has owed an answer; 0 until it was asked twice in vain."""
        since = self._since
        return now - since if since is not None and self._unanswered > 1 else 0.0

    def lag(self, now: float) -> float:
        """Seconds that its latest answer took, or has been taking."""
        return max(self._lag, self.silence(now))

    def _answered(self, asked: float) -> None:
        self._lag = self._clock() - asked
        self.forgive()


class Watchdog:
    """`end(silent)` is called once, with the seconds of each who is silent for too long; it must end the process."""

    def __init__(
        self,
        seconds: float,
        notify: Notify,
        end: Callable[[Mapping[str, float]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._notify = notify
        self._end = end
        self._clock = clock
        self._looked = clock()
        self._witnesses: dict[str, Witness] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def watch(self, name: str, ask: Ask) -> None:
        self._witnesses = {**self._witnesses, name: Witness(ask, self._clock)}

    def watch_only(self, name: str) -> None:
        """The others are about to end, as they should."""
        self._witnesses = {name: self._witnesses[name]}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def lags(self) -> dict[str, float]:
        """Seconds that the latest answer of each took, or has been taking; from any thread."""
        now = self._clock()
        return {name: witness.lag(now) for name, witness in self._witnesses.items()}

    def look(self) -> None:
        """Judge what has been answered so far, then ask again."""
        now, witnesses = self._clock(), self._witnesses
        late = now - self._looked > LATE
        self._looked = now
        if late:
            for witness in witnesses.values():
                witness.forgive()
        silences = {name: witness.silence(now) for name, witness in witnesses.items()}
        if silent := {name: seconds for name, seconds in silences.items() if seconds >= self._seconds}:
            self._stopped.set()
            self._end(silent)
            return
        if max(silences.values(), default=0.0) < self._seconds / 2:
            self._notify.alive(now)
        for witness in witnesses.values():
            witness.question(now)

    def _run(self) -> None:
        try:
            while not self._stopped.wait(INTERVAL):
                self.look()
        finally:
            if not self._stopped.is_set():  # it raised: nobody watches any more
                self._end({"watchdog": 0.0})


def of_loop(loop: asyncio.AbstractEventLoop) -> Ask:
    def ask(answered: Callable[[], None]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(answered)

    return ask


def of_actor(ref: Ref[Any]) -> Ask:
    return lambda answered: ref.tell(Ping(answered))


def of_timers(timers: Timers) -> Ask:
    class Echo:
        def tell(self, message: Callable[[], None]) -> None:
            message()

    echo = Echo()
    return lambda answered: timers.after(0.0, echo, answered)


def end_process(silent: Mapping[str, float]) -> NoReturn:
    """Say what every thread does, then exit at once with 70; a log that nobody reads does not hold it up."""
    try:
        seconds = {name: round(silence, 1) for name, silence in silent.items()}
        structlog.get_logger().critical("stuck", silent_seconds=seconds, code=STUCK, stacks=stacks())
        logs.drain(LAST_WORDS_SECONDS)
    finally:
        os._exit(STUCK)


def leave_within(seconds: float) -> threading.Timer:
    """Once started, ends the process after `seconds`, unless it is cancelled: a stop may hang in a thread as well."""
    timer = threading.Timer(seconds, end_process, [{"stop": seconds}])
    timer.daemon = True
    return timer


def stacks() -> dict[str, list[str]]:
    """`file:line function` of every frame by thread, the innermost first. Reads no file: the disk may be what hangs."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return {names.get(ident, str(ident)): _frames(frame) for ident, frame in sys._current_frames().items()}


def _frames(frame: Any) -> list[str]:
    lines = []
    while frame is not None:
        code = frame.f_code
        lines.append(f"{code.co_filename}:{frame.f_lineno} {code.co_qualname}")
        frame = frame.f_back
    return lines
