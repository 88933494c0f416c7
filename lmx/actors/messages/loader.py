"""Told to the loader actor."""

from msgspec import Struct

from lmx.actors.messages.model import Message as ModelMessage
from lmx.actors.messages.ref import Ref


class Acquire(Struct, frozen=True):
    """A model asks for its turn to load; answered by `model.Granted` or `model.Refused`."""

    model: str
    ticket: int
    """Tells this wish from earlier ones of the same model; the answer carries it."""
    need_bytes: int
    by_admin: bool
    reply_to: Ref[ModelMessage]


class Withdraw(Struct, frozen=True):
    """The model no longer wants its turn, be it still waiting or just granted; late ones are ignored."""

    model: str
    ticket: int


class Loaded(Struct, frozen=True):
    """The model passed its canary and keeps its memory."""

    model: str


class Released(Struct, frozen=True):
    """The model's worker is gone, and so is its memory."""

    model: str


class BecameIdle(Struct, frozen=True):
    """The model's last sequence ended: now it is the most recently used one."""

    model: str


class EvictionRefused(Struct, frozen=True):
    """The model is in use and stays."""

    model: str


class SetSafeMode(Struct, frozen=True):
    """While `reason` is not empty only an admin may load."""

    reason: str


class StateTimedOut(Struct, frozen=True):
    generation: int
    event: str


Message = Acquire | Withdraw | Loaded | Released | BecameIdle | EvictionRefused | SetSafeMode | StateTimedOut
