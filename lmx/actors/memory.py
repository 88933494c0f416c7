"""Watches the machine's memory, and climbs the ladder of pressure before it runs out."""

from collections import deque
from collections.abc import Mapping
from typing import assert_never

from lmx.actors import metrics
from lmx.actors.base import House, MachineActor
from lmx.actors.messages import admission, loader, memory, model
from lmx.actors.messages.ref import Ref
from lmx.actors.ports import MemoryGauge
from lmx.machines.base import Effect
from lmx.machines.pressure import (
    FALLING,
    FROM,
    RUNGS,
    CloseConnections,
    PressureMachine,
    RefuseLoads,
    RefuseRequests,
    TrimCaches,
    climb,
)

SECONDS = 1.0
"""Between two samples."""


class MemoryActor(MachineActor[memory.Message]):
    def __init__(
        self,
        house: House,
        gauge: MemoryGauge,
        models: Mapping[str, Ref[model.Message]],
        loader: Ref[loader.Message],
        admission: Ref[admission.Message],
        doors: Ref[bool],
    ) -> None:
        """`doors` is told whether connections are to be closed after every answer."""
        super().__init__("memory", house, memory.StateTimedOut)
        self._gauge = gauge
        self._models = models
        self._loader = loader
        self._admission = admission
        self._doors = doors
        self._start = 0

    def make_machine(self) -> PressureMachine:
        return PressureMachine()

    def set_up(self) -> None:
        """What a predecessor that crashed had everybody refuse is taken back; a few samples later it is known anew."""
        self._shares: deque[float] = deque(maxlen=FALLING)
        self._shown: tuple[float, str] | None = None
        super().set_up()
        for relief in (RefuseLoads(on=False), RefuseRequests(on=False), CloseConnections(on=False)):
            self.perform(relief)
        self._start += 1
        self._sample()

    def receive(self, message: memory.Message) -> None:
        match message:
            case memory.Sample(number):
                if number == self._start:
                    self._sample()
            case memory.StateTimedOut(generation, event):
                self.timed_out(generation, event)
            case _:
                assert_never(message)

    def perform(self, effect: Effect) -> None:
        match effect:
            case TrimCaches():
                for ref in self._models.values():
                    ref.tell(model.TrimMemory())
            case RefuseLoads(on):
                limit = f"{FROM['refusing_loads']:.0%}"
                text = f"Of the machine's memory {self._used} is used; from {limit} on nothing is loaded."
                self._loader.tell(loader.SetPressure(text if on else ""))
            case RefuseRequests(on):
                self._admission.tell(admission.SetPressure(on))
            case CloseConnections(on):
                self._doors.tell(on)
            case _:
                raise TypeError(f"memory: unknown effect {effect!r}")

    def _sample(self) -> None:
        self._shares.append(1 - self._gauge.free() / max(1, self._gauge.total()))
        self._climb()
        self._show()
        self.house.timers.after(SECONDS, self.myself, memory.Sample(self._start))

    def _climb(self) -> None:
        """Journaled only when it moves: there is a sample every second."""
        while climb(rung=self.machine.current, shares=tuple(self._shares)) is not None:
            event = self.decide(climb, rung=self.machine.current, shares=tuple(self._shares))
            assert event is not None
            self.feed(event, f"{self._used} of the machine's memory is used.")

    def _show(self) -> None:
        share, rung = self._shares[-1], self.machine.current
        metrics.MEMORY_USED.set(share)
        metrics.MEMORY_RUNG.set(RUNGS.index(rung))
        if self._shown != (shown := (round(share, 2), rung)):
            self._shown = shown
            self.note(used_share=round(share, 2), rung=rung)

    @property
    def _used(self) -> str:
        return f"{self._shares[-1]:.0%}" if self._shares else "an unknown part"
