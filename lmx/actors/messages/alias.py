"""Told to the actor of one alias."""

from msgspec import Struct

from lmx.actors.messages import caller
from lmx.actors.messages.ref import Ref


class Moved(Struct, frozen=True):
    """The alias means `model` now."""

    alias: str
    model: str


class Stayed(Struct, frozen=True):
    """The alias means `model`, as before the swap, and why."""

    alias: str
    model: str
    reason: str


class Swap(Struct, frozen=True):
    """Let the alias mean another model: it is loaded, and has sung, before the old one goes. Answered once."""

    model: str
    reply_to: Ref[Moved | Stayed]


class StateTimedOut(Struct, frozen=True):
    generation: int
    event: str


Message = Swap | caller.Reply | StateTimedOut
