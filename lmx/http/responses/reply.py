"""The response object: every field that OpenAI sends, always there."""

import time
from collections.abc import Sequence
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from lmx.http import replies
from lmx.http.errors import ApiError
from lmx.http.replies import Ours
from lmx.http.responses.items import Output
from lmx.http.responses.request import ResponseRequest, TextOptions
from lmx.http.responses.tools import FunctionTool, ToolChoice

Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
RUNNING: tuple[Status, ...] = ("queued", "in_progress")


class Fault(Struct, frozen=True):
    """Of a response that failed; OpenAI has few codes."""

    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str


class Incomplete(Struct, frozen=True):
    reason: Literal["max_output_tokens"] = "max_output_tokens"


class InputDetails(Struct, frozen=True):
    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputDetails(Struct, frozen=True):
    reasoning_tokens: int = 0


class Usage(Struct, frozen=True):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class ReasoningOptions(Struct, frozen=True):
    effort: str | None = None
    summary: None = None


class Response(Ours, frozen=True, kw_only=True):
    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Status
    background: bool
    completed_at: int | None = None
    error: Fault | None = None
    incomplete_details: Incomplete | None = None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    model: str
    output: Sequence[Output] = ()
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: ReasoningOptions
    safety_identifier: str | None
    service_tier: str
    store: bool
    """Whether it is to be stored: not that the disk took it."""
    temperature: float
    text: TextOptions
    tool_choice: ToolChoice
    tools: Sequence[FunctionTool]
    top_logprobs: int
    top_p: float
    truncation: Literal["auto", "disabled"]
    usage: Usage | UnsetType = UNSET
    user: str | UnsetType = UNSET
    metadata: dict[str, str]


def begun(id: str, created: int, asked: ResponseRequest, *, stores: bool) -> Response:
    """As it is when nothing has been written yet."""
    return Response(
        id=id,
        created_at=created,
        status="queued" if asked.background else "in_progress",
        background=bool(asked.background),
        instructions=asked.instructions,
        max_output_tokens=asked.max_output_tokens,
        max_tool_calls=asked.max_tool_calls,
        model=asked.model,
        parallel_tool_calls=asked.parallel_tool_calls is not False,
        previous_response_id=asked.previous_response_id,
        prompt_cache_key=asked.prompt_cache_key,
        reasoning=ReasoningOptions(asked.reasoning.effort if asked.reasoning else None),
        safety_identifier=asked.safety_identifier,
        service_tier=asked.tier,
        store=stores,
        temperature=1.0 if asked.temperature is None else asked.temperature,
        text=asked.text or TextOptions(),
        tool_choice="auto" if asked.tool_choice is None else asked.tool_choice,
        tools=[_told(tool) for tool in asked.tools or ()],
        top_logprobs=asked.top_logprobs or 0,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        truncation=asked.truncation or "disabled",
        user=UNSET if asked.user is None else asked.user,
        metadata={str(key): value for key, value in (asked.metadata or {}).items()},
    )


def ended(response: Response, output: Sequence[Output], usage: replies.Usage, reason: str, **ours: Any) -> Response:
    """`reason` is why the model stopped."""
    told = Usage(
        usage.prompt_tokens,
        InputDetails(usage.prompt_tokens_details.cached_tokens),
        usage.completion_tokens,
        OutputDetails(usage.completion_tokens_details.reasoning_tokens),
        usage.total_tokens,
    )
    if reason == "length":
        return replace(
            response, status="incomplete", incomplete_details=Incomplete(), output=output, usage=told, **ours
        )
    return replace(response, status="completed", completed_at=int(time.time()), output=output, usage=told, **ours)


def failed(response: Response, output: Sequence[Output], error: ApiError) -> Response:
    status = error.status
    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"] = "server_error"
    if status == 429:
        code = "rate_limit_exceeded"
    elif status < 500:
        code = "invalid_prompt"
    return replace(response, status="failed", output=output, error=Fault(code, error.error.message))


def _told(tool: FunctionTool) -> FunctionTool:
    return replace(tool, strict=bool(tool.strict))
