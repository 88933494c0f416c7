"""What clients of Anthropic's routes get (types of the `anthropic` client)."""

import hashlib
from itertools import groupby
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from lmx.formats.parts import Thought
from lmx.http import replies
from lmx.http.anthropic.edits import Applied, Original
from lmx.http.tools import call_id
from lmx.http.written import Call, Written
from lmx.machines.types import FinishReason

PREFIX = "toolu_"
StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"]


class CacheCreation(Struct, frozen=True):
    ephemeral_5m_input_tokens: int = 0
    ephemeral_1h_input_tokens: int = 0


class OutputDetails(Struct, frozen=True):
    thinking_tokens: int = 0


class Usage(Struct, frozen=True, kw_only=True):
    """`input_tokens` are those of the prompt that were computed; nothing is paid for keeping it."""

    input_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation: CacheCreation = CacheCreation()
    output_tokens: int
    output_tokens_details: OutputDetails = OutputDetails()
    service_tier: Literal["standard"] = "standard"


class Text(Struct, frozen=True, tag_field="type", tag="text"):
    text: str


class Thinking(Struct, frozen=True, tag_field="type", tag="thinking"):
    thinking: str
    signature: str


class ToolUse(Struct, frozen=True, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]


Content = Text | Thinking | ToolUse


class Unavailable(Struct, frozen=True, tag_field="type", tag="unavailable"):
    """What there is to say of a cache: lmx keeps no fingerprints of earlier requests."""


class Diagnosis(Struct, frozen=True):
    cache_miss_reason: Unavailable = Unavailable()


class Message(Struct, frozen=True, kw_only=True, tag_field="type", tag="message"):
    id: str
    role: Literal["assistant"] = "assistant"
    model: str
    content: tuple[Content, ...]
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    usage: Usage
    diagnostics: Diagnosis | UnsetType = UNSET
    """Only for who named an earlier message to compare with."""
    context_management: Applied | UnsetType = UNSET
    """Only for who asked for edits."""


class TokenCount(Struct, frozen=True):
    input_tokens: int
    context_management: Original | UnsetType = UNSET
    """Only for who asked for edits."""


def id_of(exchange: str) -> str:
    """`msg_…`"""
    return exchange.replace("-", "_", 1)


def usage_of(cost: replies.Usage) -> Usage:
    known = cost.prompt_tokens_details.cached_tokens
    return Usage(
        input_tokens=cost.prompt_tokens - known,
        cache_read_input_tokens=known,
        output_tokens=cost.completion_tokens,
        output_tokens_details=OutputDetails(cost.completion_tokens_details.reasoning_tokens),
    )


def prompt_of(usage: Usage) -> int:
    """Tokens."""
    return usage.input_tokens + usage.cache_read_input_tokens


def stop_of(reason: FinishReason, stop: str, *, called: bool, full: bool) -> StopReason:
    """`stop`: the string that was hit; `full`: max_tokens were written."""
    if reason == "length":
        return "max_tokens" if full else "model_context_window_exceeded"
    if stop:
        return "stop_sequence"
    return "tool_use" if called else "end_turn"


def content_of(written: Written, *, omits_thoughts: bool) -> tuple[Content, ...]:
    """Thoughts, text and calls in their order; a call that was cut off is none."""
    content: list[Content] = []
    for kind, parts in groupby(written.said, type):
        if kind is Call:
            content += [_use(call) for call in parts if isinstance(call, Call) and call.ended]
            continue
        text = "".join([part.text for part in parts if not isinstance(part, Call)])
        if kind is Thought:
            content.append(Thinking("" if omits_thoughts else text, signed(text)))
        elif text.strip():
            content.append(Text(text))
    return tuple(content)


def _use(call: Call) -> ToolUse:
    return ToolUse(call_id(call.id, PREFIX), call.name, msgspec.json.decode(call.arguments or "{}"))


def signed(thought: str) -> str:
    """Clients keep it with the thought; it is never asked for."""
    return hashlib.blake2b(thought.encode(), digest_size=16).hexdigest()
