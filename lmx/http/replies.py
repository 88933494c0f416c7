"""What clients of the OpenAI routes get: every field that OpenAI's schema requires, always there."""

from typing import Any, Literal

from msgspec import UNSET, Raw, Struct, UnsetType

from lmx.http.logprobs import ChatLogprobs, TextLogprobs
from lmx.machines.types import CacheReport

FINGERPRINT = "fp_lmx"


class PromptDetails(Struct, frozen=True):
    cached_tokens: int = 0
    audio_tokens: int = 0


class CompletionDetails(Struct, frozen=True):
    reasoning_tokens: int = 0
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class Usage(Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails = CompletionDetails()


class CalledFunction(Struct, frozen=True):
    name: str
    arguments: str
    """A JSON object."""


class ToolCall(Struct, frozen=True):
    id: str
    function: CalledFunction
    type: Literal["function"] = "function"


class AssistantMessage(Struct, frozen=True):
    content: str | None
    """null when there is nothing but calls."""
    role: Literal["assistant"] = "assistant"
    refusal: None = None
    tool_calls: tuple[ToolCall, ...] | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    """What the model thought. Clients look for it under two names; OpenAI itself has none."""
    reasoning: str | UnsetType = UNSET


class ChatChoice(Struct, frozen=True):
    index: int
    message: AssistantMessage
    finish_reason: str
    logprobs: ChatLogprobs | None = None


class Truncated(Struct, frozen=True):
    messages: int
    tokens: int


class Ours(Struct, frozen=True, kw_only=True):
    """What lmx tells beyond OpenAI's fields, where there is something to tell."""

    lmx_cache: CacheReport | tuple[CacheReport, ...] | UnsetType = UNSET
    """How much of the prompt was known; for each one, where there are several."""
    lmx_truncated: Truncated | UnsetType = UNSET
    """What was left out, of all prompts together."""


class ChatCompletion(Ours, frozen=True, kw_only=True):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: tuple[ChatChoice, ...]
    usage: Usage
    service_tier: str | UnsetType = UNSET
    system_fingerprint: str = FINGERPRINT


class CalledPiece(Struct, frozen=True):
    name: str | UnsetType = UNSET
    arguments: str = ""


class ToolCallPiece(Struct, frozen=True):
    """The first one of a call has its id, type and name; all others are pieces of its arguments."""

    index: int
    function: CalledPiece
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET


class ChunkDelta(Struct, frozen=True):
    role: Literal["assistant"] | UnsetType = UNSET
    content: str | Raw | UnsetType | None = UNSET
    refusal: UnsetType | None = UNSET
    tool_calls: tuple[ToolCallPiece, ...] | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET


class ChunkChoice(Struct, frozen=True):
    index: int
    delta: ChunkDelta
    finish_reason: str | None = None
    logprobs: Raw | None = None


class ChatChunk(Ours, frozen=True, kw_only=True):
    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: tuple[ChunkChoice, ...]
    usage: Usage | UnsetType | None = UNSET
    """null on every chunk but the last, when usage was asked for; else absent."""
    service_tier: str | UnsetType = UNSET
    system_fingerprint: str = FINGERPRINT


class TextChoice(Struct, frozen=True):
    index: int
    text: str | Raw
    finish_reason: str | None
    logprobs: TextLogprobs | Raw | None = None


class TextCompletion(Ours, frozen=True, kw_only=True):
    """A reply, and a chunk too."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: tuple[TextChoice, ...]
    usage: Usage | UnsetType | None = UNSET
    system_fingerprint: str = FINGERPRINT


class Capabilities(Struct, frozen=True, kw_only=True):
    """What a model can do; null = not known before it was loaded once."""

    chat: bool | None = None
    completions: bool | None = None
    embeddings: bool | None = None
    rerank: bool | None = None
    tools: bool | None = None
    thinking: bool | None = None
    structured_output: bool | None = None
    vision: bool | None = None


class AliasFacts(Struct, frozen=True):
    model: str | None
    """The one that it means now; null when that is not known."""
    fallbacks: tuple[str, ...]
    """Who is asked after that one, in this order."""


class PresetFacts(Struct, frozen=True):
    model: str
    """The model or alias that it was made of."""
    own_worker: bool
    defaults: dict[str, Any]
    """For requests that do not give these fields."""
    system: bool
    """It has a system prompt, for chats that bring none."""
    thinking: bool
    """It says how chats think that do not say it."""


class Model(Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "lmx"
    state: str
    """Of its machine; `unknown` when the journal did not answer."""
    reason: str = ""
    context_length: int | None = None
    """Tokens of one sequence, prompt and completion; null until it was loaded once."""
    max_model_len: int | None = None
    """The same, as vLLM names it."""
    capabilities: Capabilities
    alias: AliasFacts | UnsetType = UNSET
    preset: PresetFacts | UnsetType = UNSET
    facts: dict[str, Any]


class Models(Struct, frozen=True):
    data: tuple[Model, ...]
    object: Literal["list"] = "list"
