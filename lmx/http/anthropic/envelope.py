"""Errors as Anthropic's clients read them: which routes have them, and what each becomes."""

import re
from collections.abc import Mapping
from typing import Literal

import msgspec
from aiohttp import web
from msgspec import UNSET, Struct, UnsetType

from lmx.http.errors import ApiError
from lmx.http.keys import MISSING

ROUTE = "/v1/messages"
THREADS = "thread_unsupported_request"
VERSION = "anthropic-version"
"""The header that all of Anthropic's clients send."""
NO_KEY = "x-api-key header is required"
TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""By status; what is not here is an invalid_request_error below 500, and an api_error from there on."""
CALLED: Mapping[str, str] = {
    "response_format": "output_config.format",
    "reasoning_effort": "output_config.effort",
    "max_completion_tokens": "max_tokens",
    "stop": "stop_sequences",
}
"""What Anthropic calls the fields that a refusal may name."""

_INDEX = re.compile(r"\.?\[(\d+)\]")


class Details(Struct, frozen=True):
    error_code: str
    unsupported: tuple[str, ...]


class Fault(Struct, frozen=True):
    type: str
    message: str
    details: Details | UnsetType = UNSET
    """What a program can go by: the anthropic client does without a thread where there is none."""


class Envelope(Struct, frozen=True, kw_only=True):
    type: Literal["error"] = "error"
    error: Fault
    request_id: str


def speaks_to(request: web.BaseRequest) -> bool:
    """Whether who asks reads Anthropic's errors: on its routes everybody, elsewhere its clients."""
    return request.path == ROUTE or request.path.startswith(f"{ROUTE}/") or VERSION in request.headers


def body(error: ApiError, request_id: str) -> bytes:
    kind = TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    details = Details(THREADS, ("thread",)) if error.error.code == THREADS else UNSET
    return msgspec.json.encode(Envelope(error=Fault(kind, _message(error), details), request_id=request_id))


def response(error: ApiError, request_id: str) -> web.Response:
    given = error.response()
    given.body = body(error, request_id)
    given.headers["request-id"] = request_id
    return given


def _message(error: ApiError) -> str:
    """With the field's name in front, as Anthropic has it."""
    if error.tokens is not None:
        return "prompt is too long: {} tokens > {} maximum".format(*error.tokens)
    param, message = error.error.param, error.error.message
    if message == MISSING:
        return NO_KEY
    if param is None:
        return message
    place = _INDEX.sub(r".\1", CALLED.get(param, param)).replace(".function.parameters", ".input_schema")
    return f"{place}: " + message.removeprefix(f"Invalid '{param}': ")
