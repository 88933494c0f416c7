"""Told to the supervisor actor."""

from msgspec import Struct


class Crashed(Struct, frozen=True):
    """An actor's handler raised; the actor has cleaned up and started over with its inbox intact."""

    actor: str
    error: str


class Lost(Struct, frozen=True):
    """An actor could not start over: the daemon cannot go on."""

    actor: str
    error: str


Message = Crashed | Lost
