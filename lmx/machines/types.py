"""Values that every layer speaks of: models, prompts, sampling, refusals, failures. Frozen and without behaviour."""

from enum import StrEnum
from typing import Any, Literal

from msgspec import Struct, field

from lmx.machines.speech import Calling, Speech, Thinking

BackendName = Literal["mlx", "llama_cpp", "fake"]
FinishReason = Literal["stop", "length"]


KvType = Literal["f16", "q8_0", "q4_0"]
KvLayout = Literal["auto", "per_sequence", "unified"]
Switch = Literal["auto", "on", "off"]
Speculation = Literal["auto", "off", "lookup", "draft"]
Priority = Literal["interactive", "batch"]


class Adapter(Struct, frozen=True, forbid_unknown_fields=True):
    """A LoRA adapter: a GGUF file, or a folder as mlx-lm writes it."""

    path: str
    scale: float = 1.0


class ModelSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model that may be loaded: where its files are and how it is to be run."""

    name: str
    path: str
    backend: BackendName
    context: int = 4096
    """Tokens of one sequence (prompt + completion); the model's own training context is the upper bound."""
    slots: int = 8
    """Sequences that decode at the same time."""
    threads: int = 0
    """CPU threads of a step of GGUF models (MLX has no such setting); 0 = the number of physical cores."""
    prefill_chunk: int = 512
    """Prompt tokens that one step may read at most."""
    target_itl_ms: int = 0
    """The longest pause between two tokens that a prompt beside them may cause; 0 = 100 on a GPU, 250 on a CPU."""
    batch_itl_ms: int = 1000
    """The same while only sequences of the class `batch` decode."""
    kv_type: KvType = "f16"
    kv_layout: KvLayout = "auto"
    """GGUF: a KV stream for each sequence, or one that all share; auto = a stream for each (docs/measurements.md)."""
    flash_attention: Switch = "auto"
    """GGUF only; auto = by device and KV type (docs/engine.md)."""
    adapters: tuple[Adapter, ...] = ()
    speculation: Speculation = "auto"
    """auto = a draft model where one is given, else prompt lookup where the backend can."""
    draft: str = ""
    """Path of the draft model; its vocabulary must be the model's own."""
    mmproj: str = ""
    """GGUF: path of the projector with which the model sees images."""
    draft_tokens: int = 8
    """Tokens that are guessed at a time, at most."""
    cache_bytes: int = 0
    """Memory for prompts that may come again; 0 = a tenth of the machine's."""
    disk_cache_bytes: int = 0
    """Disk space for them; 0 = none is used."""
    cache_dir: str = ""
    mlx_memory_limit: int = 0
    """Bytes that MLX may take before it waits for running work; 0 = the library's own limit."""
    mlx_cache_limit: int = 50_000_000_000
    """Bytes of freed buffers that MLX keeps, at most, and never more than its own limit; 0 = that limit."""
    mlx_wired_limit: int = 0
    """Bytes that MLX keeps from being paged out (macOS 15 and later); 0 = as mlx-lm sets it."""
    keep_alive_seconds: float = 0.0
    """How long it stays loaded while nobody asks for it; 0 = for ever."""
    pinned: bool = False
    """It is never unloaded for others, nor for being idle."""
    chat_template: str = ""
    """Path of a Jinja file that is used instead of the model's own template."""
    script: str = ""
    """What the fake backend acts out; empty for real ones."""


class ModelInfo(Struct, frozen=True, kw_only=True):
    """What a worker found out about its model while loading it."""

    backend_version: str
    context: int
    slots: int
    vocab: int
    weights_bytes: int
    chat_template: bool
    """False: the model can complete text but not chat."""
    prefix: Literal["trim", "snapshot", "none"] = "none"
    """How prompts are taken up again: any beginning of them, whole snapshots only, or not at all."""
    speculation: str = "off"
    """What was agreed on at load: `lookup`, `draft`, or `off: ` and why."""
    generates: bool = True
    """False: an embedding or reranking model."""
    embedding: int = 0
    """Numbers of an embedding; 0 = the model makes none."""
    scores: bool = False
    """It tells how relevant a document is to a query."""
    speech: Speech = Speech()
    sees: bool = False
    """It reads images."""
    digest: str = ""
    """Of its files, by their sizes, times and samples."""


class Chat(Struct, frozen=True, tag="chat", omit_defaults=True):
    """Messages that the worker renders with the model's chat template."""

    messages: tuple[dict[str, Any], ...]
    tools: tuple[dict[str, Any], ...] = ()
    """As templates read them: {"type": "function", "function": {"name", "description", "parameters", "strict"}}."""
    variables: dict[str, Any] = {}
    """More variables of the template."""
    thinking: Thinking = Thinking()
    images: tuple[bytes, ...] = ()
    """Files, in the order of the parts {"type": "image"} of the messages whose content is a list of parts."""
    prefill: str = ""
    """What the answer begins with: it is told to the model, which goes on from there."""


class Text(Struct, frozen=True, tag="text"):
    text: str


class Tokens(Struct, frozen=True, tag="tokens"):
    ids: tuple[int, ...]


Prompt = Chat | Text | Tokens


class Constraint(Struct, frozen=True):
    """What the text must match. `text` is JSON for json_schema (a schema) and choice (a list of strings)."""

    kind: Literal["json_object", "json_schema", "regex", "lark", "gbnf", "choice"]
    text: str = ""


class Sampling(Struct, frozen=True, kw_only=True):
    """How the next token is drawn. Same names and meanings on every backend; the defaults change nothing."""

    temperature: float = 1.0
    """0 = greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """0 = off."""
    min_p: float = 0.0
    seed: int | None = None
    """Draws depend on (seed, index of the token) only, never on other sequences of the batch."""
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = field(default_factory=dict)
    typical_p: float = 1.0
    """Locally typical sampling; 1 = off."""
    top_n_sigma: float = 0.0
    """Tokens within so many standard deviations of the best logit; 0 = off."""
    xtc_probability: float = 0.0
    """Chance that all likely tokens but the last of them are excluded; 0 = off."""
    xtc_threshold: float = 0.1
    dry_multiplier: float = 0.0
    """Penalty on continuing a repetition; 0 = off."""
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1
    """How far back repetitions are looked for; -1 = the whole sequence."""
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")


class Generation(Struct, frozen=True, kw_only=True):
    """One sequence to be generated."""

    prompt: Prompt
    max_tokens: int | None = None
    """None = as many as the context has room for."""
    clip: bool = False
    """`max_tokens` may be more than there is room for, and then as many as there is room for are meant."""
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    """Strings that end the text; they are not part of it."""
    ignore_eos: bool = False
    min_tokens: int = 0
    """The sequence does not end by itself before so many tokens."""
    logprobs: int | None = None
    """With each token its log-probability and those of so many (0 … 20) most likely ones; None = neither."""
    echo: bool = False
    """Tell the prompt's text too, and its log-probabilities when `logprobs` is set."""
    constraint: Constraint | None = None
    truncate: Literal["never", "oldest"] = "never"
    """What to do with a prompt that is too long: refuse it, or leave out its oldest messages or tokens."""
    priority: Priority = "interactive"
    explain_cache: bool = False
    """Tell how much of the prompt was known, and why not more."""
    calling: Calling | None = None
    audit: bool = False
    """For the canary: report token ids, and fail on any logit that is not finite."""


class Usage(Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    """Completion tokens that were thoughts."""


class Likely(Struct, frozen=True, array_like=True):
    """A token that could have been chosen; `logprob` is natural and of the model's own distribution."""

    token: int
    text: bytes
    logprob: float


class TokenLogprob(Struct, frozen=True, array_like=True):
    """A token, how likely it was (None: the first one of a prompt), and the most likely ones in its place."""

    token: int
    text: bytes
    logprob: float | None
    top: tuple[Likely, ...] = ()


class CacheReport(Struct, frozen=True, omit_defaults=True):
    """How much of a prompt was known already, and what was different where it ends."""

    cached_tokens: int
    prompt_tokens: int
    cause: Literal["hit", "first_use", "evicted", "changed", "short", "unsupported"]
    """hit: all that can be reused; changed: a known prompt has other tokens from `first_difference` on."""
    first_difference: int | None = None
    message: int | None = None
    """Which message (from 0) the first different token belongs to, for chats."""


class Cut(Struct, frozen=True, omit_defaults=True):
    """What `truncate` left out."""

    messages: int = 0
    tokens: int = 0


class RefusalKind(StrEnum):
    """Why a request was not taken. A refusal never reads like a crash."""

    MODEL_NOT_FOUND = "model_not_found"
    INVALID_PROMPT = "invalid_prompt"
    INVALID_CONSTRAINT = "invalid_constraint"
    """The schema, grammar or pattern cannot be honoured."""
    CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
    QUEUE_FULL = "queue_full"
    MODEL_LOADING = "model_loading"
    MODEL_LOAD_FAILED = "model_load_failed"
    MODEL_QUARANTINED = "model_quarantined"
    MODEL_UNLOADED = "model_unloaded"
    INSUFFICIENT_MEMORY = "insufficient_memory"
    SAFE_MODE = "safe_mode"
    MEMORY_PRESSURE = "memory_pressure"
    """The machine runs out of memory: no loads and, later on, no new generations until it has some again."""
    QUEUE_TIMEOUT = "queue_timeout"
    """It waited for its turn as long as it may."""
    REQUEST_QUARANTINED = "request_quarantined"
    """The same request has killed workers a short time ago."""
    DUPLICATE = "duplicate_request"
    """One with the same Idempotency-Key is at work."""
    DRAINING = "draining"
    UNSUPPORTED = "unsupported_parameter"
    """The model cannot do what was asked for: `param` names the field."""


class Refusal(Struct, frozen=True):
    kind: RefusalKind
    message: str
    retry_after: float | None = None
    """Seconds after which another try makes sense; None = it does not help to wait."""
    param: str | None = None
    tokens: tuple[int, int] | None = None
    """Of a prompt that is too long: how many it has, and how many it may have."""


class FailureKind(StrEnum):
    """Why a request that was taken did not finish."""

    WORKER_DIED = "worker_died"
    ENGINE_ERROR = "engine_error"
    TIMEOUT = "timeout"
    ABORTED = "aborted"
    INTERNAL = "internal"
    SUPERSEDED = "superseded"
    """The client sent the same request again, and that one goes on."""


class Failure(Struct, frozen=True):
    kind: FailureKind
    message: str
    retry: bool = True
    """False: the same request would probably fail again (tell the client not to retry)."""
