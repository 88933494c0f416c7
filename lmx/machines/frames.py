"""What main process and worker say to each other: msgpack frames over a Unix socket pair (engine/wire.py)."""

from typing import Literal

from msgspec import Struct

from lmx.machines.speech import Speech
from lmx.machines.tasks import Embedding, Rendering
from lmx.machines.types import (
    CacheReport,
    Cut,
    FinishReason,
    Generation,
    ModelInfo,
    ModelSpec,
    Refusal,
    RefusalKind,
    TokenLogprob,
)

PROTOCOL = 5


# --- main process → worker -------------------------------------------------------------------------------------------


class Load(Struct, frozen=True, tag="load"):
    """First frame of a worker's life."""

    spec: ModelSpec


class WarmUp(Struct, frozen=True, tag="warm_up"):
    """Run what compiles lazily once; answered by `Warmed`."""


class Resume(Struct, frozen=True):
    """A sequence goes on that another worker had begun: what it had written, and told, so far."""

    token_ids: tuple[int, ...]
    characters: int
    """Of its text that were told."""


class Insert(Struct, frozen=True, tag="insert"):
    """Start a sequence. Ids are chosen by the main process and never used twice in one worker."""

    seq: int
    generation: Generation
    resume: Resume | None = None


class Embed(Struct, frozen=True, tag="embed"):
    """Start a job, under an id that no sequence has; answered by one `Rejected` or `Embedded`."""

    job: int
    embedding: Embedding


class Render(Struct, frozen=True, tag="render"):
    """The same for a rendering; answered by one `Rejected` or `Rendered`."""

    job: int
    rendering: Rendering


class Cancel(Struct, frozen=True, tag="cancel"):
    """Stop a sequence or a job within one step; no frame speaks of it afterwards. Unknown ids are ignored."""

    seq: int


class Probe(Struct, frozen=True, tag="probe"):
    """Answered with `Probed` by the engine thread, between two steps."""

    number: int


class TrimCaches(Struct, frozen=True, tag="trim_caches"):
    """Memory is short: let go of every known prompt in memory, and of freed buffers."""


class Shutdown(Struct, frozen=True, tag="shutdown"):
    """Release everything and exit with code 0."""


Command = Load | WarmUp | Insert | Embed | Render | Cancel | Probe | TrimCaches | Shutdown


# --- worker → main process -------------------------------------------------------------------------------------------


class Hello(Struct, frozen=True, tag="hello"):
    protocol: int
    pid: int


class LoadProgress(Struct, frozen=True, tag="load_progress"):
    fraction: float


class Loaded(Struct, frozen=True, tag="loaded"):
    info: ModelInfo


class LoadFailed(Struct, frozen=True, tag="load_failed"):
    """The files cannot be served: said once, then the worker exits."""

    message: str
    kind: RefusalKind = RefusalKind.MODEL_LOAD_FAILED


class Warmed(Struct, frozen=True, tag="warmed"):
    error: str | None = None


class Accepted(Struct, frozen=True, tag="accepted"):
    """The prompt was rendered and tokenised, the sequence waits for a slot."""

    seq: int
    prompt_tokens: int
    echo: str = ""
    """The prompt's text, where it was asked for."""
    cut: Cut | None = None
    speech: Speech | None = None
    """How the text of a chat is to be read; None for other prompts."""


class Rejected(Struct, frozen=True, tag="rejected"):
    """The prompt cannot be served; the sequence never existed."""

    seq: int
    refusal: Refusal


class Finish(Struct, frozen=True):
    """Why a sequence ended; `error` is a sentence when it did not end well."""

    reason: FinishReason | Literal["error"]
    error: str = ""
    stop: str = ""
    """The stop string that was found, if one was."""


class SeqStep(Struct, frozen=True, omit_defaults=True):
    """What one step did for one sequence."""

    seq: int
    text: str = ""
    n_tokens: int = 0
    """Completion tokens that this step added (a stop token counts, as it was computed)."""
    thought_tokens: int = 0
    """Those that turned out to be thoughts; of a sequence that goes on, first those of what others had written."""
    prefilled: int = 0
    """Prompt tokens in the KV cache so far; set while the prompt is read."""
    cached: int = 0
    """Prompt tokens that were not computed again; set with the first prefill report."""
    token_ids: tuple[int, ...] = ()
    """Those that this step added, so that another worker can go on with the sequence."""
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    """Of the prompt tokens that this step read; the pieces of all steps make the whole prompt."""
    cache: CacheReport | None = None
    finish: Finish | None = None


class Step(Struct, frozen=True, tag="step"):
    """What engine steps up to `number` did: one frame for the whole batch, of several steps when they are short."""

    number: int
    seqs: tuple[SeqStep, ...]


class Beat(Struct, frozen=True, tag="beat"):
    """Once a second, from a thread of its own: the process runs, and so far its engine has come."""

    steps: int
    """Engine steps done so far: while the engine is at work, it must grow."""
    busy: bool
    patience: float = 0.0
    """Seconds that the present step may take, by chunk size and measured speed, before the engine counts as stuck."""


class Probed(Struct, frozen=True, tag="probed"):
    number: int


class Idled(Struct, frozen=True, tag="idled"):
    """The last sequence is gone. `kv_used` tokens are left in the KV cache: more than 0 is a leak."""

    kv_used: int


class Memory(Struct, frozen=True, kw_only=True):
    """Bytes of one worker, as far as they can be told apart; 0 = the platform does not tell."""

    weights: int = 0
    kv: int = 0
    prefix_cache: int = 0
    process: int = 0
    """All of the process: PSS on Linux, phys_footprint on macOS."""
    transient: int = 0
    """`process` less what is accounted for above, not below 0."""
    device_active: int = 0
    device_peak: int = 0
    device_cache: int = 0


class Telemetry(Struct, frozen=True, kw_only=True, tag="telemetry"):
    """How the engine does, at most once a second and when it becomes idle. Counters count from the worker's start."""

    memory: Memory = Memory()
    kv_tokens: int = 0
    """In the KV cache of running sequences."""
    cache_entries: int = 0
    disk_bytes: int = 0
    disk_entries: int = 0
    reused_tokens: int = 0
    computed_tokens: int = 0
    """Prompt tokens that were not reused."""
    drafted: int = 0
    accepted: int = 0
    """Drafted tokens that were the right ones."""
    speculating: bool = False
    """False: nothing to guess with, or it lost more than it won lately."""
    chunk: int = 0
    """Prompt tokens of the latest step's budget."""
    handles: int = 0
    """Files that the process has open; 0 = the platform does not tell."""
    threads: int = 0
    """Of the process, as Python knows them."""


class Embedded(Struct, frozen=True, tag="embedded"):
    """A job's numbers, in the order of its inputs: little-endian float32, `width` of them for each (1 for scores)."""

    job: int
    vectors: bytes = b""
    width: int = 0
    tokens: tuple[int, ...] = ()
    """Of each input, as the model read it."""
    error: str = ""
    """Why there are none, as a sentence."""


class Rendered(Struct, frozen=True, tag="rendered"):
    """What a rendering came to: the one of both that it asked for."""

    job: int
    tokens: tuple[int, ...] = ()
    text: str = ""


class Broken(Struct, frozen=True, tag="broken"):
    """The engine cannot go on: said as the last thing before the worker exits by itself."""

    message: str


Report = (
    Hello | LoadProgress | Loaded | LoadFailed | Warmed
    | Accepted | Rejected | Step | Embedded | Rendered | Idled | Telemetry | Beat | Probed | Broken
)  # fmt: skip
