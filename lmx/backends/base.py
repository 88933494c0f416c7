"""What a backend is to the engine: slots that take sequences, and a step that moves all of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from lmx.machines.types import ModelSpec, Sampling


class LoadError(Exception):
    """The model's files cannot be served; the message says which file and why, in words for the user."""


class LoadAborted(Exception):
    """`progress` returned False."""


class EngineFatal(RuntimeError):
    """The backend's state is unknown after a failed computation: the worker must exit, every sequence is lost."""


@dataclass(frozen=True)
class Info:
    """What the engine must know about a loaded model.

    `eos` ends a sequence; `token_bytes[i]` is what token i adds to the text (empty for control tokens);
    `chat_template` is Jinja source, None when the model has none; `bos_text`/`eos_text` are template variables;
    `bos` is the token that a raw text prompt must start with, None when the model wants none.
    """

    version: str
    context: int
    slots: int
    eos: frozenset[int]
    token_bytes: Sequence[bytes]
    chat_template: str | None
    weights_bytes: int
    bos: int | None = None
    bos_text: str = ""
    eos_text: str = ""

    @property
    def vocab(self) -> int:
        return len(self.token_bytes)


@dataclass(frozen=True)
class SeqSpec:
    """One sequence: 1 <= len(prompt), len(prompt) + max_tokens <= context, all ids < vocab (the engine checks).

    `stop_ids` end it and count as its last token; `audit` asks for an error event on any non-finite logit.
    """

    id: int
    prompt: Sequence[int]
    max_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    stop_ids: frozenset[int] = frozenset()
    audit: bool = False


@dataclass(frozen=True, slots=True)
class Prefilled:
    """`done` prompt tokens of `seq` are in the KV cache, `cached` of them from earlier work."""

    seq: int
    done: int
    cached: int = 0


@dataclass(frozen=True, slots=True)
class Token:
    """A new token; with `reason` it is the last one ("stop": it is in stop_ids) and the slot is free again."""

    seq: int
    token: int
    reason: Literal["stop", "length"] | None = None


@dataclass(frozen=True, slots=True)
class SeqError:
    """The sequence cannot go on; its slot is free again. The others are unharmed."""

    seq: int
    message: str


Event = Prefilled | Token | SeqError


@dataclass(frozen=True)
class Stats:
    """`kv_used` counts tokens in the KV cache of running sequences; 0 when none runs, or something leaks."""

    running: int
    kv_used: int


class Backend(Protocol):
    """Driven by one engine thread; only `encode` may be called from another."""

    def load(self, spec: ModelSpec, progress: Callable[[float], bool]) -> Info:
        """Load the files. Raise LoadError (cannot be served) or LoadAborted (`progress(0..1)` returned False)."""
        ...

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Token ids of `text`, without added BOS; `special` lets control tokens written in it count. Thread-safe."""
        ...

    def warm_up(self) -> None:
        """Run what compiles or allocates lazily once; no sequence may be running."""
        ...

    def free_slots(self) -> int:
        """How many sequences `add` would take now."""
        ...

    def add(self, spec: SeqSpec) -> None:
        """Give a sequence to a free slot; it is computed by the next steps."""
        ...

    def step(self, chunk: int) -> list[Event]:
        """One decode step for every running sequence, then at most `chunk` prompt tokens of waiting ones.

        Events of one sequence come in order, at most one Token each. Returns [] only when nothing runs.
        """
        ...

    def cancel(self, seq: int) -> None:
        """Forget a sequence and free its slot; unknown ids are ignored."""
        ...

    def stats(self) -> Stats: ...

    def close(self) -> None: ...
