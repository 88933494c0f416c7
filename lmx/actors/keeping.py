"""When an idle model goes: its time is over, or its worker is no longer what it was."""

from math import inf

from lmx.actors.alarm import Alarm
from lmx.actors.base import House
from lmx.actors.messages import model
from lmx.actors.messages.ref import Ref
from lmx.machines import frames, keeping
from lmx.machines.keeping import Footprint
from lmx.machines.types import ModelSpec


class Keeping:
    """One model's, whose actor is told `KeptLongEnough`."""

    def __init__(self, spec: ModelSpec, house: House, owner: Ref[model.Message]) -> None:
        self._spec = spec
        self._clock = house.clock
        self._alarm: Alarm[model.Message] = Alarm(house.timers, house.clock, owner, model.KeptLongEnough)
        self.forget()

    def forget(self) -> None:
        """There is another worker, or none."""
        self.used(None)
        self._first: Footprint | None = None
        self.why_recycle = ""
        """Not empty: the worker is to be replaced as soon as nothing is served."""

    def used(self, keep_alive: float | None) -> None:
        """A request came, with its own wish for how long the model is to stay; the latest one's counts."""
        self._asked = keep_alive
        self._until = inf

    def idle(self) -> None:
        """Nothing is served any more: from now on the model's time runs. A second call changes nothing."""
        spec = self._spec
        seconds = keeping.stays(configured=spec.keep_alive_seconds, asked=self._asked, pinned=spec.pinned)
        if seconds is not None and self._until == inf:
            self._until = self._clock.monotonic() + seconds
            self._alarm.at(self._until)

    def over(self, number: int) -> bool:
        """Whether the model's time is over; if not, alarm `number` was of an earlier idleness, and is set anew."""
        if not self._alarm.rang(number):
            return False
        if self._until <= self._clock.monotonic():
            return True
        self._alarm.at(self._until)
        return False

    def drift(self, telemetry: frames.Telemetry, ready_seconds: float) -> str:
        """Why the worker, which is idle and `ready_seconds` old, is to be replaced; empty = it need not be."""
        memory = telemetry.memory
        now = Footprint(max(0, memory.process - memory.kv - memory.prefix_cache), telemetry.handles, telemetry.threads)
        if not memory.process or ready_seconds < keeping.FIRST_SECONDS:
            return ""
        if self._first is None:
            self._first = now
        return keeping.drift(first=self._first, now=now)
