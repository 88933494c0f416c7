"""Told to the server actor."""

from msgspec import Struct

from lmx.actors.messages import caller


class Start(Struct, frozen=True):
    """The listener is bound: recover, then serve."""


class Recovered(Struct, frozen=True):
    """The crash-loop actor's verdict: no reason means that models may be loaded. Told again when safe mode ends."""

    safe_mode: str


class PreloadEnded(Struct, frozen=True):
    """The model is ready or will not be, or it is time to begin with the next one."""

    model: str


class Stop(Struct, frozen=True):
    """Drain and stop; told a second time, stop now."""

    reason: str


class AdmissionDrained(Struct, frozen=True):
    """Nothing is in flight any more."""


class Escalated(Struct, frozen=True):
    """The supervisor gave up on an actor."""

    reason: str


class StateTimedOut(Struct, frozen=True):
    generation: int
    event: str


Message = Start | Recovered | PreloadEnded | Stop | AdmissionDrained | caller.Reply | Escalated | StateTimedOut
