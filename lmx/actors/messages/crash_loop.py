"""Told to the crash-loop actor."""

from msgspec import Struct

from lmx.actors.messages import server
from lmx.actors.messages.ref import Ref


class Started(Struct, frozen=True):
    """The daemon starts: record it, and answer with `server.Recovered`."""

    reply_to: Ref[server.Message]


class StoppedCleanly(Struct, frozen=True):
    """The daemon stops because it was asked to."""


class Release(Struct, frozen=True):
    """An admin ends safe mode."""


class StateTimedOut(Struct, frozen=True):
    generation: int
    event: str


Message = Started | StoppedCleanly | Release | StateTimedOut
