"""What clients of the OpenAI routes get: every field that OpenAI's schema requires, always there."""

from collections.abc import Iterable
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from lmx.machines import types

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


def total(usages: Iterable[types.Usage]) -> Usage:
    """What all sequences of a request cost together."""
    rows = list(usages)
    prompt = sum(row.prompt_tokens for row in rows)
    completion = sum(row.completion_tokens for row in rows)
    return Usage(prompt, completion, prompt + completion, PromptDetails(sum(row.cached_tokens for row in rows)))


class AssistantMessage(Struct, frozen=True):
    content: str
    role: Literal["assistant"] = "assistant"
    refusal: None = None


class ChatChoice(Struct, frozen=True):
    index: int
    message: AssistantMessage
    finish_reason: str
    logprobs: None = None


class ChatCompletion(Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: tuple[ChatChoice, ...]
    usage: Usage
    system_fingerprint: str = FINGERPRINT


class ChunkDelta(Struct, frozen=True):
    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    refusal: UnsetType | None = UNSET


class ChunkChoice(Struct, frozen=True):
    index: int
    delta: ChunkDelta
    finish_reason: str | None = None
    logprobs: None = None


class ChatChunk(Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: tuple[ChunkChoice, ...]
    usage: Usage | UnsetType | None = UNSET
    """null on every chunk but the last, when usage was asked for; else absent."""
    system_fingerprint: str = FINGERPRINT


class TextChoice(Struct, frozen=True):
    index: int
    text: str
    finish_reason: str | None
    logprobs: None = None


class TextCompletion(Struct, frozen=True, kw_only=True):
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
