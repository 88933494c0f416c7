"""Told to the memory actor, which watches how much of the machine's memory is used."""

from msgspec import Struct


class Sample(Struct, frozen=True):
    """Time to look again; ignored unless `number` is that of the latest start."""

    number: int


class StateTimedOut(Struct, frozen=True):
    generation: int
    event: str


Message = Sample | StateTimedOut
