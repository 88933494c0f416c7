"""Told to the admission actor."""

from msgspec import Struct

from lmx.actors.messages import caller, server
from lmx.actors.messages.client import Event
from lmx.actors.messages.ref import Ref
from lmx.machines.tasks import Task
from lmx.machines.types import Adapter, Refusal


class Submit(Struct, frozen=True):
    """Admit one sequence or refuse it; everything that happens to it is told to `reply_to`.

    Every Submit is followed by exactly one Release or Cancel with the same id (unique while it lasts).
    """

    request_id: str
    model: str
    client: str
    """Who asks, for fairness: an address or a name."""
    generation: Task
    reply_to: Ref[Event]
    group: str = ""
    """Sequences of one group count as one request, and are taken if its first one was; empty = a group of its own."""
    seconds: float | None = None
    """How long the client waits for the last token; None = as long as every request may take."""
    key: str = ""
    """The client's Idempotency-Key: of one key and client, one request is at work at a time."""
    retry: bool = False
    """The client says that it sends this again."""
    keep_alive: float | None = None
    """Seconds that the model is to stay loaded afterwards; below 0 = for ever, None = as it is configured."""


class Cancel(Struct, frozen=True):
    """The client is gone: stop the sequence within one step."""

    request_id: str


class Release(Struct, frozen=True):
    """The outcome has reached the client, down to its last byte."""

    request_id: str


class TimeIsUp(Struct, frozen=True):
    """Somebody's may be; ignored unless `number` is that of the latest alarm."""

    number: int


class LoadModel(Struct, frozen=True):
    """Bring a model to `ready` by an admin's word: also out of failed and quarantined."""

    model: str
    reply_to: Ref[caller.Reply]


class UnloadModel(Struct, frozen=True):
    model: str
    reply_to: Ref[caller.Reply]
    gently: bool = False
    """Let it finish what it was asked until now, however long that takes."""


class AdaptModel(Struct, frozen=True):
    """Let a model run with these LoRA adapters and no others."""

    model: str
    adapters: tuple[Adapter, ...]
    reply_to: Ref[caller.Reply]


class Drain(Struct, frozen=True):
    """Refuse everything from now on; the server is told `AdmissionDrained` when nothing is in flight."""

    reply_to: Ref[server.Message]


class Route(Struct, frozen=True):
    """From now on `alias` means `model`, also for requests that wait; None: keep them until it means one again."""

    alias: str
    model: str | None
    fallbacks: tuple[str, ...] = ()
    """Who is asked, in this order, for requests that `model` cannot serve."""


class SetPressure(Struct, frozen=True):
    """While `shedding`, the machine runs out of memory: no new generations."""

    shedding: bool


class Capacity(Struct, frozen=True):
    """A model answers, with so many slots; 0 = it does not, at present."""

    model: str
    slots: int


class Refusing(Struct, frozen=True):
    """A model refuses all that wait for it, and so does admission: it will not be loaded."""

    model: str
    refusal: Refusal


class Declined(Struct, frozen=True):
    """A model refuses a sequence that another one may serve; its client has not been told. Told after `Ended`."""

    ask: Submit
    model: str
    refusal: Refusal


class Began(Struct, frozen=True):
    """A sequence has its first token; `tokens` of its prompt had to be read. Told once."""

    seq: int
    tokens: int


class Ended(Struct, frozen=True):
    """A sequence is over, however it ended, and its slot is free. Told once for every `model.Serve`."""

    seq: int
    tokens: int
    """Prompt and completion."""


Message = (
    Submit | Cancel | Release | LoadModel | UnloadModel | AdaptModel | Route | Drain | SetPressure  # wishes
    | Capacity | Refusing | Declined | Began | Ended | TimeIsUp  # facts
)  # fmt: skip
