"""What a backend is to the engine: slots that take sequences, and a step that moves all of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from lmx.backends.pictures import Picture, Tile
from lmx.machines.frames import Memory
from lmx.machines.types import ModelSpec, Sampling


class LoadError(Exception):
    """The model's files cannot be served; the message says which file and why, in words for the user."""


class LoadAborted(Exception):
    """`progress` returned False."""


class EngineFatal(RuntimeError):
    """The backend's state is unknown after a failed computation: the worker must exit, every sequence is lost."""


CHUNKS_TOGETHER = 4
"""A step reads at most so many times `ModelSpec.prefill_chunk`: several short prompts, where nobody decodes."""


@dataclass(frozen=True)
class Info:
    """What the engine must know about a loaded model.

    `eos` ends a sequence; `token_bytes[i]` is what token i adds to the text (empty for control tokens);
    `chat_template` is Jinja source, None when the model has none; `bos_text`/`eos_text` are template variables;
    `bos` is the token that a raw text prompt must start with, None when the model wants none.
    `prompts` is how many prompts it reads side by side. `kv_key` names everything that a computed prompt depends on
    beside its tokens: files, library, KV type, adapters; empty when it cannot be exported.
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
    device: Literal["cpu", "gpu"] = "cpu"
    prompts: int = 1
    prefix: Literal["trim", "snapshot", "none"] = "none"
    """Whether a Handle can be reused up to any of its tokens, only as a whole, or there are none."""
    speculation: str = "off"
    """`lookup`, `draft`, or `off: ` and the reason."""
    embedding: int = 0
    """Numbers of an embedding; 0 = the model makes none."""
    generates: bool = True
    """False: an embedding or reranking model, without slots for sequences."""
    pair: str = ""
    """A query-and-document pair as text, with {query} and {document} in it; empty = the model does not score."""
    ends: tuple[int, ...] = ()
    """Tokens that the model wants after a text that is to be embedded."""
    look: Callable[[bytes], Picture] | None = None
    """What stands for an image file in a prompt; thread-safe, raises PictureError. None = it sees nothing."""
    kv_key: str = ""
    controls: Mapping[int, str] = field(default_factory=dict)
    """How each control token is written in a prompt."""

    @property
    def vocab(self) -> int:
        return len(self.token_bytes)


class Handle(Protocol):
    """Computed tokens that outlive their sequence. Only the backend that made it knows what is inside."""

    @property
    def tokens(self) -> int:
        """How many tokens, from the first one on, it covers; 0 = its content was lost."""
        ...

    @property
    def nbytes(self) -> int:
        """Memory beyond the slots' own that dropping it would free; may change with every `add`."""
        ...


@dataclass(frozen=True)
class Reuse:
    """The first `tokens` tokens of a sequence are in `handle`.

    `whole`: the handle is given away and nobody else will ask for it, so it need not be copied.
    """

    handle: Handle
    tokens: int
    whole: bool = False


class Mask(Protocol):
    """Which tokens may come next, as a constraint says. Never raises; used by the engine thread only."""

    def allowed(self) -> NDArray[np.uint32]:
        """One bit a token, lowest first, for the next position: ceil(vocab / 32) words, valid until `accept`."""
        ...

    def accept(self, token: int) -> None:
        """The next token is this one. Begins to work out the next mask, so that it is ready after the forward pass."""
        ...

    @property
    def fault(self) -> str:
        """Why the constraint cannot go on (the sequence must fail); empty while all is well."""
        ...


@dataclass(frozen=True)
class SeqSpec:
    """One sequence: 1 <= len(prompt), len(prompt) + max_tokens <= context, all ids < vocab (the engine checks).

    But for those of `tiles`, which stand for images; the last one is a token in any case.
    `stop_ids` end it and count as its last token, but none is chosen before `min_tokens`; `max_tokens` 0 reads
    the prompt and ends. `logprobs` asks for that many most likely tokens with every token.
    The prompt's last `written` tokens, fewer than all, are the sequence's own: `max_tokens` counts further ones, while
    `min_tokens`, penalties and draws go on from there, and the mask has them behind it.
    `reuse`: its beginning is known, with reuse.tokens < len(prompt). `checkpoints`: lengths of the prompt, rising, at
    which a backend with whole snapshots makes one. `breakers` are tokens that no repetition reaches across (DRY).
    `audit` asks for an error event on any non-finite logit.
    """

    id: int
    prompt: Sequence[int]
    max_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    stop_ids: frozenset[int] = frozenset()
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: bool = False
    mask: Mask | None = None
    reuse: Reuse | None = None
    checkpoints: tuple[int, ...] = ()
    breakers: frozenset[int] = frozenset()
    audit: bool = False
    written: int = 0
    tiles: Mapping[int, Tile] = field(default_factory=dict)
    """The prompt's images, by the first of their ids."""


@dataclass(frozen=True, slots=True)
class Logprob:
    """Natural log-probabilities under the model's own distribution: before bias, penalties, masks and filters.

    `top`: the most likely tokens with theirs, best first. `logprob` is None for the first token of a prompt.
    """

    token: int
    logprob: float | None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Prefilled:
    """`done` prompt tokens of `seq` are in the KV cache, `cached` of them from earlier work.

    `logprobs`: those of the prompt tokens that this step told apart, in order; over all steps the whole prompt.
    """

    seq: int
    done: int
    cached: int = 0
    logprobs: tuple[Logprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Token:
    """A new token; with `reason` it is the last one ("stop": it is in stop_ids). The slot stays until `release`."""

    seq: int
    token: int
    reason: Literal["stop", "length"] | None = None
    logprob: Logprob | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A checkpoint of `seq` was passed: `handle` covers the prompt up to it."""

    seq: int
    handle: Handle


@dataclass(frozen=True, slots=True)
class SeqError:
    """The sequence cannot go on and is gone, as after `release`. The others are unharmed."""

    seq: int
    message: str


Event = Prefilled | Token | Snapshot | SeqError


@dataclass(frozen=True)
class Stats:
    """`kv_used` counts tokens in the KV cache of running sequences; 0 when none runs, or something leaks.

    `memory` leaves `prefix_cache` and `transient` to the engine. Counters count from the load.
    """

    running: int
    kv_used: int
    memory: Memory = field(default_factory=Memory)
    drafted: int = 0
    accepted: int = 0
    speculating: bool = False


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

        Events of one sequence come in order. A sequence may get several Tokens (guessed ones that were right), none
        after one with a `reason`. Returns [] only when nothing runs.
        """
        ...

    def release(self, seq: int, *, keep: bool = False) -> Handle | None:
        """End a sequence, finished or not, and free its slot; unknown ids are ignored.

        With `keep` what it computed is handed out: handle.tokens tokens of its prompt and of the tokens it was
        reported to have written, in this order. None when nothing is worth keeping, or can be.
        """
        ...

    def snapshot(self, seq: int) -> Handle | None:
        """A copy of what a running sequence has computed so far, as `release(keep=True)` would hand it out."""
        ...

    def drop(self, handle: Handle) -> None:
        """Forget it."""
        ...

    def save(self, handle: Handle) -> list[memoryview]:
        """The handle as bytes, for a file; [] when that cannot be done. Slow only by copying memory."""
        ...

    def restore(self, data: memoryview, tokens: int) -> Handle | None:
        """What `save` gave, concatenated, as a handle of `tokens` tokens; None when it does not fit this model."""
        ...

    def trim(self) -> None:
        """Give back memory that is only held for speed; called when idle."""
        ...

    def embed(self, prompts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """One row of Info.embedding numbers, of length 1, for each prompt. Only if Info.embedding is not 0."""
        ...

    def score(self, prompts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """One relevance for each query-and-document pair, rendered as the model wants it. Only of reranking models."""
        ...

    def stats(self) -> Stats: ...

    def close(self) -> None: ...
