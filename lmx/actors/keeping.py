"""When an idle model goes: its time is over, or its worker is no longer what it was."""

from lmx.actors.base import House
from lmx.actors.messages import model
from lmx.actors.messages.ref import Ref
from lmx.machines import frames, keeping
from lmx.machines.keeping import Footprint
from lmx.machines.types import ModelSpec


class Keeping:
    """One model's; its timer is a message to its actor, with a generation that makes late ones stale."""

    def __init__(self, spec: ModelSpec, house: House) -> None:
        self._spec = spec
        self._house = house
        self._generation = 0
        self.forget()

    def forget(self) -> None:
        """There is another worker, or none."""
        self.used(None)  # so that late messages are stale
        self._first: Footprint | None = None
        self.why_recycle = ""
        """Not empty: the worker is to be replaced as soon as nothing is served."""

    def used(self, keep_alive: float | None) -> None:
        """A request came, with its own wish for how long the model is to stay; the latest one's counts."""
        self._generation += 1
        self._asked = keep_alive
        self._counting = False

    def idle(self, owner: Ref[model.Message]) -> None:
        """Nothing is served any more: `owner` is told when the model's time is over. A second call changes nothing."""
        spec = self._spec
        seconds = keeping.stays(configured=spec.keep_alive_seconds, asked=self._asked, pinned=spec.pinned)
        if seconds is not None and not self._counting:
            self._counting = True
            self._house.timers.after(seconds, owner, model.KeptLongEnough(self._generation))

    def over(self, generation: int) -> bool:
        """Whether the message is of the idleness that still lasts."""
        return self._counting and generation == self._generation

    def drift(self, telemetry: frames.Telemetry, ready_seconds: float) -> str:
        """Why the worker, which is idle and `ready_seconds` old, is to be replaced; empty = it need not be."""
        memory = telemetry.memory
        now = Footprint(max(0, memory.process - memory.kv - memory.prefix_cache), telemetry.handles, telemetry.threads)
        if not memory.process or ready_seconds < keeping.FIRST_SECONDS:
            return ""
        if self._first is None:
            self._first = now
        return keeping.drift(first=self._first, now=now)
