"""What main process and worker say to each other: msgpack frames over a Unix socket pair (engine/wire.py)."""

from typing import Literal

from msgspec import Struct

from lmx.machines.types import FinishReason, Generation, ModelInfo, ModelSpec, Refusal

PROTOCOL = 1


# --- main process → worker -------------------------------------------------------------------------------------------


class Load(Struct, frozen=True, tag="load"):
    """First frame of a worker's life."""

    spec: ModelSpec


class WarmUp(Struct, frozen=True, tag="warm_up"):
    """Run what compiles lazily once; answered by `Warmed`."""


class Insert(Struct, frozen=True, tag="insert"):
    """Start a sequence. Ids are chosen by the main process and never used twice in one worker."""

    seq: int
    generation: Generation


class Cancel(Struct, frozen=True, tag="cancel"):
    """Stop a sequence within one step; no frame speaks of it afterwards. Unknown ids are ignored."""

    seq: int


class Shutdown(Struct, frozen=True, tag="shutdown"):
    """Release everything and exit with code 0."""


Command = Load | WarmUp | Insert | Cancel | Shutdown


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


class Warmed(Struct, frozen=True, tag="warmed"):
    error: str | None = None


class Accepted(Struct, frozen=True, tag="accepted"):
    """The prompt was rendered and tokenised, the sequence waits for a slot."""

    seq: int
    prompt_tokens: int


class Rejected(Struct, frozen=True, tag="rejected"):
    """The prompt cannot be served; the sequence never existed."""

    seq: int
    refusal: Refusal


class Finish(Struct, frozen=True):
    """Why a sequence ended; `error` is a sentence when it did not end well."""

    reason: FinishReason | Literal["error"]
    error: str = ""


class SeqStep(Struct, frozen=True, omit_defaults=True):
    """What one step did for one sequence."""

    seq: int
    text: str = ""
    n_tokens: int = 0
    """Completion tokens that this step added (a stop token counts, as it was computed)."""
    prefilled: int = 0
    """Prompt tokens in the KV cache so far; set while the prompt is read."""
    cached: int = 0
    """Prompt tokens that were not computed again; set with the first prefill report."""
    token_ids: tuple[int, ...] = ()
    """Only for audited sequences."""
    finish: Finish | None = None


class Step(Struct, frozen=True, tag="step"):
    """Everything that one engine step did: one frame for the whole batch."""

    number: int
    seqs: tuple[SeqStep, ...]


class Idled(Struct, frozen=True, tag="idled"):
    """The last sequence is gone. `kv_used` tokens are left in the KV cache: more than 0 is a leak."""

    kv_used: int


class Broken(Struct, frozen=True, tag="broken"):
    """The engine cannot go on: said as the last thing before the worker exits by itself."""

    message: str


Report = Hello | LoadProgress | Loaded | LoadFailed | Warmed | Accepted | Rejected | Step | Idled | Broken
