"""Told to the crash-loop actor."""

from msgspec import Struct

from lmx.actors.messages import server
from lmx.actors.messages.ref import Ref


class Started(Struct, frozen=True):
    """The daemon starts: record it, and answer with `server.Recovered`."""

    reply_to: Ref[server.Message]


class StoppedCleanly(Struct, frozen=True):
    """The daemon stops because it was asked to."""


class Released(Struct, frozen=True):
    """The answer to `Release`: the state that the machine is in now."""

    state: str


class Release(Struct, frozen=True):
    """An admin ends safe mode, if it is on."""

    reply_to: Ref[Released]


class StateTimedOut(Struct, frozen=True):
    generation: int
    event: str


Message = Started | StoppedCleanly | Release | StateTimedOut
