"""Weighs models before they are loaded: on threads, because a disk that hangs must not hold up an actor."""

import threading
from dataclasses import dataclass

from lmx.actors.messages import model
from lmx.actors.messages.ref import Ref
from lmx.actors.ports import MemoryGauge, Timers
from lmx.estimate import EstimateError, estimate
from lmx.machines.types import ModelSpec

SECONDS = 10.0
"""For a model's files to answer."""


@dataclass(frozen=True)
class Ask:
    spec: ModelSpec
    ticket: int
    owner: Ref[model.Message]


class FileScales:
    """The `Scales` port: at most one thread per model, however often it is asked for while its disk hangs."""

    def __init__(self, timers: Timers, gauge: MemoryGauge, seconds: float = SECONDS) -> None:
        self._timers = timers
        self.free = gauge.free
        self._seconds = seconds
        self._lock = threading.Lock()
        self._latest: dict[str, Ask] = {}

    def weigh(self, spec: ModelSpec, ticket: int, owner: Ref[model.Message]) -> None:
        late = f"{spec.path} did not answer within {self._seconds:g} s: its disk may be gone."
        self._timers.after(self._seconds, owner, model.Weighed(ticket, problem=late))
        with self._lock:
            idle = spec.name not in self._latest
            self._latest[spec.name] = Ask(spec, ticket, owner)
        if idle:
            self._begin(spec.name)

    def _begin(self, name: str) -> None:
        thread = threading.Thread(target=self._work, args=(name,), name=f"weighs-{name}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread can be had; that the disk hangs too is unlikely, and the watchdog's business
            self._work(name)

    def _work(self, name: str) -> None:
        """Answer the latest question; again when another one came meanwhile."""
        done = False
        while not done:
            ask = self._latest[name]
            answer = _answer(ask)
            with self._lock:
                done = self._latest[name] is ask
                if done:
                    del self._latest[name]
            if done:
                ask.owner.tell(answer)


def _answer(ask: Ask) -> model.Weighed:
    try:
        weighed = estimate(ask.spec)
    except EstimateError as error:
        return model.Weighed(ask.ticket, problem=str(error))
    return model.Weighed(ask.ticket, weighed.total, weighed.kv_per_token)
