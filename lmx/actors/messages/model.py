"""Told to the actor of one model."""

from typing import Literal

from msgspec import Struct

from lmx.actors.messages import admission, caller, client
from lmx.actors.messages.ref import Ref
from lmx.machines.frames import Report
from lmx.machines.tasks import Task
from lmx.machines.types import Adapter, Failure, Refusal

Cause = Literal["exit", "killed", "signal", "oom", "gpu", "protocol", "wedge", "unstarted"]
"""Of a worker's death, in one word."""


class Serve(Struct, frozen=True):
    """Generate one sequence, loading the model first if it must be. `seq` is never used twice."""

    seq: int
    generation: Task
    reply_to: Ref[client.Event]
    keep_alive: float | None = None
    """Seconds that the model is to stay loaded afterwards; below 0 = for ever, None = as it is configured."""


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


class Lease(Struct, frozen=True):
    """Until `by` gives it back, the loader may not take the model's memory for another one, however idle it is."""

    by: str
    held: bool


class Retire(Struct, frozen=True):
    """Unload as soon as nothing is served; a Load takes it back."""

    reply_to: Ref[caller.Reply]


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


class Watch(Struct, frozen=True):
    """Tell `reply_to` how many slots there are now, and from now on whenever that changes, and of every sequence."""

    reply_to: Ref[admission.Message]


class Forgo(Struct, frozen=True):
    """Nobody waits in admission: a turn to load that is still waited for need not come, unless somebody else wants it.

    Ignored where it is too late.
    """


class TrimMemory(Struct, frozen=True):
    """Memory is short: let go of what is only kept because it may be useful."""


class Recycle(Struct, frozen=True):
    """Go on with a fresh worker as soon as nothing is served; ignored by a model that is not ready."""

    reason: str


class Weighed(Struct, frozen=True):
    """What wish number `ticket` would take, in bytes; a `problem` is a sentence, why it cannot be. The first counts."""

    ticket: int
    need_bytes: int = 0
    kv_per_token: int = 0
    """Of a model that takes memory for its KV cache token by token; 0 = not known, or taken at load."""
    problem: str = ""


class KeptLongEnough(Struct, frozen=True):
    """An idle model's time may be over; ignored unless `number` is that of its latest alarm."""

    number: int


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


class Prove(Struct, frozen=True):
    """Somebody wants to know whether the model answers: an idle one is asked something short, now."""


class Rested(Struct, frozen=True):
    """Time to look whether the model has been idle for long; ignored unless `number` is that of the latest opening."""

    number: int


class SongOverdue(Struct, frozen=True):
    """A canary of an idle model should have ended by now; ignored unless it is number `run` that still goes on."""

    run: int


class PulseDue(Struct, frozen=True):
    """Time to look at worker number `worker`; ignored when it is gone."""

    worker: int


class StateTimedOut(Struct, frozen=True):
    """A state's deadline passed; ignored unless `generation` is still the machine's."""

    generation: int
    event: str


Wish = (
    Serve | Cancel | Abort | Load | Unload | Lease | Retire | Adapt | Shut | Evict | TrimMemory | Recycle
    | Prove | Watch | Forgo
)  # fmt: skip
Fact = (
    Granted | Refused | Weighed | KeptLongEnough | Reported | WorkerExited | Rested | SongOverdue | PulseDue
    | StateTimedOut
)  # fmt: skip
Message = Wish | Fact
