"""Told to the actor of one model."""

from typing import Literal

from msgspec import Struct

from lmx.actors.messages import caller, client
from lmx.actors.messages.ref import Ref
from lmx.machines.frames import Report
from lmx.machines.types import Adapter, Embedding, Failure, Generation, Refusal

Cause = Literal["exit", "killed", "signal", "oom", "gpu", "protocol", "wedge"]
"""Of a worker's death, in one word."""


class Serve(Struct, frozen=True):
    """Generate one sequence, loading the model first if it must be. `seq` is never used twice."""

    seq: int
    generation: Generation | Embedding
    reply_to: Ref[client.Event]


class Cancel(Struct, frozen=True):
    seq: int


class Abort(Struct, frozen=True):
    """End a sequence by our own will; its client is told `failure`."""

    seq: int
    failure: Failure


class Load(Struct, frozen=True):
    """Become ready; by an admin also out of failed, quarantined and safe mode."""

    by_admin: bool = False
    reply_to: Ref[caller.Reply] | None = None


class Unload(Struct, frozen=True):
    """Let what runs finish under the drain deadline, then give the memory back."""

    reply_to: Ref[caller.Reply] | None = None


class Adapt(Struct, frozen=True):
    """Run with these LoRA adapters from now on: what is loaded is drained and loaded again, what is not remembers them.

    Answered with `ready`, or with `unloaded` by a model that nobody wants loaded.
    """

    adapters: tuple[Adapter, ...]
    reply_to: Ref[caller.Reply]


class Shut(Struct, frozen=True):
    """The daemon stops: abort what runs and unload; nothing may load again."""

    reply_to: Ref[caller.Reply]


class Evict(Struct, frozen=True):
    """The loader needs the memory: unload if nothing is served; the loader is told when it is not so."""


class Granted(Struct, frozen=True):
    """The loader: it is your turn, the memory is reserved."""

    ticket: int


class Refused(Struct, frozen=True):
    """The loader: this model cannot be loaded now."""

    ticket: int
    refusal: Refusal


class Reported(Struct, frozen=True):
    """A frame from worker number `worker` (stale numbers are ignored)."""

    worker: int
    report: Report


class WorkerExited(Struct, frozen=True):
    """The process is gone, and reaped. `cause` is one word for metrics, `detail` a sentence for people."""

    worker: int
    cause: Cause
    detail: str


class StateTimedOut(Struct, frozen=True):
    """A state's deadline passed; ignored unless `generation` is still the machine's."""

    generation: int
    event: str


Message = (
    Serve | Cancel | Abort | Load | Unload | Adapt | Shut | Evict  # wishes
    | Granted | Refused | Reported | WorkerExited | StateTimedOut  # facts
)  # fmt: skip
