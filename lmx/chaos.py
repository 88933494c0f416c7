"""What `lmx chaos` breaks, on purpose, in a daemon whose config has `chaos.enabled`."""

import asyncio
import math
import os
import signal
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import psutil
import structlog

from lmx.actors.messages import journal
from lmx.actors.messages.ref import Ref
from lmx.actors.ports import Clock, MemoryGauge

LATER = 0.1
"""Seconds that an answer has to get out before the loop is blocked."""
LONGEST = 3600.0
SIGNALS = {
    "kill-worker": signal.SIGKILL,
    "stop-worker": signal.SIGSTOP,
    "continue-worker": signal.SIGCONT,
}


class Gauge:
    """The machine's memory, or what somebody pretends of it."""

    def __init__(self, real: MemoryGauge) -> None:
        self._real = real
        self.pretended = 0.0
        """The share that is said to be used; 0 = the truth."""

    def free(self) -> int:
        return int((1 - self.pretended) * self.total()) if self.pretended else self._real.free()

    def total(self) -> int:
        return self._real.total()


class Unheard:
    """A message that no actor knows: its handler raises."""


class Chaos:
    def __init__(
        self,
        gauge: Gauge,
        loop: asyncio.AbstractEventLoop,
        actors: Mapping[str, Ref[Any]],
        journal: Ref[journal.Message],
        clock: Clock,
    ) -> None:
        """`actors` are those that may be made to crash, by name."""
        self._gauge = gauge
        self._loop = loop
        self._actors = actors
        self._journal = journal
        self._clock = clock

    def act(self, what: str, of: str, workers: Mapping[str, int]) -> str:
        """Do it, journal it, and say what was done. `workers` are the pids by model. Raises ValueError, a sentence."""
        done = self._do(what, of, workers)
        structlog.get_logger().warning("chaos", what=what, of=of, done=done)
        inputs = {"what": what, "of": of}
        self._journal.tell(
            journal.Decided(
                actor="chaos", policy="chaos", inputs=inputs, outcome=done, at=self._clock.time(), exact=False
            )
        )
        return done

    def _do(self, what: str, of: str, workers: Mapping[str, int]) -> str:
        match what:
            case "kill-worker" | "stop-worker" | "continue-worker":
                return _signal(SIGNALS[what], of, workers)
            case "crash-actor":
                return self._crash(of)
            case "block-loop":
                seconds = _number(of, LONGEST, "seconds")
                self._loop.call_soon_threadsafe(self._loop.call_later, LATER, partial(time.sleep, seconds))
                return f"The event loop stands still for {seconds:g} s."
            case "memory":
                self._gauge.pretended = _number(of, 1.0, "a share")
                return f"Memory is used to {self._gauge.pretended:.0%}." if self._gauge.pretended else "Memory is real."
            case _:
                raise ValueError(f"{what} is not known, expected {', '.join((*SIGNALS, *OTHERS))}.")

    def _crash(self, name: str) -> str:
        actor = self._actors.get(name)
        if actor is None:
            raise ValueError(f"There is no actor {name}, expected one of {', '.join(self._actors)}.")
        actor.tell(Unheard())
        return f"The actor {name} was told what it does not know."


OTHERS = ("crash-actor", "block-loop", "memory")


def _signal(number: signal.Signals, model: str, workers: Mapping[str, int]) -> str:
    """Only to a child of ours: the board may know a pid for longer than its process lives."""
    pid = workers.get(model)
    try:
        process = psutil.Process(pid) if pid else None
        if process is None or process.ppid() != os.getpid():
            raise ValueError(f"{model} has no worker now.")
        process.send_signal(number)
    except psutil.NoSuchProcess:
        raise ValueError(f"{model} has no worker now.") from None
    return f"{number.name} was sent to the worker of {model} (pid {pid})."


def _number(text: str, most: float, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= most:
        raise ValueError(f"'{text[:100]}' is not {what}, expected 0 to {most:g}.")
    return number
