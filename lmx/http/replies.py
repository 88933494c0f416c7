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


class AssistantMessage(Struct, frozen=True):
    content: str
    role: Literal["assistant"] = "assistant"
    refusal: None = None


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


class ChunkDelta(Struct, frozen=True):
    role: Literal["assistant"] | UnsetType = UNSET
    content: str | Raw | UnsetType = UNSET
    refusal: UnsetType | None = UNSET


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


class Model(Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "lmx"
    state: str
    """Of its machine; `unknown` when the journal did not answer."""
    reason: str = ""
    facts: dict[str, Any]


class Models(Struct, frozen=True):
    data: tuple[Model, ...]
    object: Literal["list"] = "list"
