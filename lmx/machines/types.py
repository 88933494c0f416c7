"""Values that every layer speaks of: models, prompts, sampling, refusals, failures. Frozen and without behaviour."""

from enum import StrEnum
from typing import Any, Literal

from msgspec import Struct, field

BackendName = Literal["mlx", "llama_cpp", "fake"]
FinishReason = Literal["stop", "length"]


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
    prefill_chunk: int = 256
    """Prompt tokens of one step while other sequences decode."""
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


class Chat(Struct, frozen=True, tag="chat"):
    """Messages that the worker renders with the model's chat template."""

    messages: tuple[dict[str, Any], ...]


class Text(Struct, frozen=True, tag="text"):
    text: str


class Tokens(Struct, frozen=True, tag="tokens"):
    ids: tuple[int, ...]


Prompt = Chat | Text | Tokens


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


class Generation(Struct, frozen=True, kw_only=True):
    """One sequence to be generated."""

    prompt: Prompt
    max_tokens: int | None = None
    """None = as many as the context has room for."""
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    """Strings that end the text; they are not part of it."""
    ignore_eos: bool = False
    audit: bool = False
    """For the canary: report token ids, and fail on any logit that is not finite."""


class Usage(Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


class RefusalKind(StrEnum):
    """Why a request was not taken. A refusal never reads like a crash."""

    MODEL_NOT_FOUND = "model_not_found"
    INVALID_PROMPT = "invalid_prompt"
    CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
    QUEUE_FULL = "queue_full"
    MODEL_LOADING = "model_loading"
    MODEL_LOAD_FAILED = "model_load_failed"
    MODEL_QUARANTINED = "model_quarantined"
    MODEL_UNLOADED = "model_unloaded"
    INSUFFICIENT_MEMORY = "insufficient_memory"
    SAFE_MODE = "safe_mode"
    DRAINING = "draining"


class Refusal(Struct, frozen=True):
    kind: RefusalKind
    message: str
    retry_after: float | None = None
    """Seconds after which another try makes sense; None = it does not help to wait."""
    param: str | None = None


class FailureKind(StrEnum):
    """Why a request that was taken did not finish."""

    WORKER_DIED = "worker_died"
    ENGINE_ERROR = "engine_error"
    TIMEOUT = "timeout"
    ABORTED = "aborted"
    INTERNAL = "internal"


class Failure(Struct, frozen=True):
    kind: FailureKind
    message: str
    retry: bool = True
    """False: the same request would probably fail again (tell the client not to retry)."""
