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
    preload: bool = False
    """It is to be ready from the start, but nobody else has to go for it."""
    pinned: bool = False
    """Once it is loaded, it has to go for nobody."""


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


class Measured(Struct, frozen=True):
    """What the model's worker takes by now, in bytes."""

    model: str
    nbytes: int
    trimmed: bool = False
    """It has just let go of what it can: what it took before counts no more."""


class BecameBusy(Struct, frozen=True):
    """The model serves something again."""

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


class SetPressure(Struct, frozen=True):
    """While `reason` is not empty nobody may load: the machine's memory is short."""

    reason: str


class StateTimedOut(Struct, frozen=True):
    generation: int
    event: str


Message = (
    Acquire | Withdraw | SetSafeMode | SetPressure  # wishes
    | Loaded | Released | Measured | BecameBusy | BecameIdle | EvictionRefused | StateTimedOut  # facts
)  # fmt: skip
