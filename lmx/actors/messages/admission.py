"""Told to the admission actor."""

from msgspec import Struct

from lmx.actors.messages import caller, server
from lmx.actors.messages.client import Event
from lmx.actors.messages.ref import Ref
from lmx.machines.types import Adapter, Embedding, Generation


class Submit(Struct, frozen=True):
    """Admit one sequence or refuse it; everything that happens to it is told to `reply_to`.

    Every Submit is followed by exactly one Release or Cancel with the same id (unique while it lasts).
    """

    request_id: str
    model: str
    client: str
    """Who asks, for fairness: an address or a name."""
    generation: Generation | Embedding
    reply_to: Ref[Event]
    group: str = ""
    """Sequences of one group count as one request, and are taken if its first one was; empty = a group of its own."""


class Cancel(Struct, frozen=True):
    """The client is gone: stop the sequence within one step."""

    request_id: str


class Release(Struct, frozen=True):
    """The outcome has reached the client, down to its last byte."""

    request_id: str


class Expired(Struct, frozen=True):
    """A request's time is over; ignored unless lease number `seq` is still held."""

    request_id: str
    seq: int


class LoadModel(Struct, frozen=True):
    """Bring a model to `ready` by an admin's word: also out of failed and quarantined."""

    model: str
    reply_to: Ref[caller.Reply]


class UnloadModel(Struct, frozen=True):
    model: str
    reply_to: Ref[caller.Reply]


class AdaptModel(Struct, frozen=True):
    """Let a model run with these LoRA adapters and no others."""

    model: str
    adapters: tuple[Adapter, ...]
    reply_to: Ref[caller.Reply]


class Drain(Struct, frozen=True):
    """Refuse everything from now on; the server is told `AdmissionDrained` when nothing is in flight."""

    reply_to: Ref[server.Message]


Message = Submit | Cancel | Release | Expired | LoadModel | UnloadModel | AdaptModel | Drain
