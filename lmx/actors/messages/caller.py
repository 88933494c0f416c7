"""Told to whoever asked for a load or an unload: once, when it is done or cannot be done."""

from msgspec import Struct

from lmx.machines.types import Refusal


class Settled(Struct, frozen=True):
    """The model is in the state that was asked for (`ready` or `unloaded`)."""

    model: str
    state: str


class Refused(Struct, frozen=True):
    model: str
    refusal: Refusal


Reply = Settled | Refused
