"""How short the machine is of memory: a ladder with a measure on every rung, and hysteresis between them."""

from collections.abc import Sequence

from statemachine import State

from lmx.machines.base import Effect, Machine

RUNGS = ("nominal", "trimming", "refusing_loads", "shedding", "closing")
FROM = {"trimming": 0.85, "refusing_loads": 0.90, "shedding": 0.95, "closing": 0.98}
"""Share of the machine's memory that is used, from which on a rung is stood on."""
HYSTERESIS = 0.03
RISING, FALLING = 3, 5
"""Samples in a row that must agree: one peak is no pressure, and one dip is no relief."""


class TrimCaches(Effect, frozen=True):
    """Every worker is to let go of what it only keeps because it may be useful."""


class RefuseLoads(Effect, frozen=True):
    on: bool


class RefuseRequests(Effect, frozen=True):
    on: bool


class CloseConnections(Effect, frozen=True):
    """Every answer is to be the last one on its connection."""

    on: bool


class PressureMachine(Machine):
    """nominal ⇄ trimming ⇄ refusing_loads ⇄ shedding ⇄ closing; a jump goes over every rung."""

    nominal = State(initial=True)
    trimming = State()
    refusing_loads = State()
    shedding = State()
    closing = State()

    rise = (
        nominal.to(trimming, on="trim_caches")
        | trimming.to(refusing_loads, on="refuse_loads")
        | refusing_loads.to(shedding, on="refuse_requests")
        | shedding.to(closing, on="close_connections")
    )
    fall = (
        closing.to(shedding, on="keep_connections")
        | shedding.to(refusing_loads, on="take_requests")
        | refusing_loads.to(trimming, on="allow_loads")
        | trimming.to(nominal)
    )

    def trim_caches(self) -> None:
        self.emit(TrimCaches())

    def refuse_loads(self) -> None:
        self.emit(RefuseLoads(on=True))

    def allow_loads(self) -> None:
        self.emit(RefuseLoads(on=False))

    def refuse_requests(self) -> None:
        self.emit(RefuseRequests(on=True))

    def take_requests(self) -> None:
        self.emit(RefuseRequests(on=False))

    def close_connections(self) -> None:
        self.emit(CloseConnections(on=True))

    def keep_connections(self) -> None:
        self.emit(CloseConnections(on=False))


def climb(*, rung: str, shares: Sequence[float]) -> str | None:
    """The event that the latest `shares` of memory (0 … 1, the oldest first) call for on `rung`; None = stay.

    To be asked again after every move.
    """
    place = RUNGS.index(rung)
    latest = shares[-RISING:]
    if place + 1 < len(RUNGS) and len(latest) == RISING and min(latest) >= FROM[RUNGS[place + 1]]:
        return "rise"
    latest = shares[-FALLING:]
    if place and len(latest) == FALLING and max(latest) < FROM[rung] - HYSTERESIS:
        return "fall"
    return None
