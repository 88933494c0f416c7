"""Every answer that is not a success, in OpenAI's envelope. The tables say which reason has which status."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from aiohttp import web
from msgspec import Struct

from lmx.machines.types import Failure, FailureKind, Refusal, RefusalKind

SHOWN = 100
"""Characters of an offending value that are echoed."""
RETRY_SECONDS = 5
"""What a 503 says that does not know better."""


class Answer(NamedTuple):
    status: int
    type: str


INVALID = "invalid_request_error"
SERVER = "server_error"

# The code is always the kind's own name.
REFUSALS: Mapping[RefusalKind, Answer] = {
    RefusalKind.MODEL_NOT_FOUND: Answer(404, INVALID),
    RefusalKind.INVALID_PROMPT: Answer(400, INVALID),
    RefusalKind.INVALID_CONSTRAINT: Answer(400, INVALID),
    RefusalKind.CONTEXT_LENGTH_EXCEEDED: Answer(400, INVALID),
    RefusalKind.QUEUE_FULL: Answer(429, "rate_limit_error"),
    RefusalKind.MODEL_LOADING: Answer(503, SERVER),
    RefusalKind.MODEL_LOAD_FAILED: Answer(503, SERVER),
    RefusalKind.MODEL_QUARANTINED: Answer(503, SERVER),
    RefusalKind.MODEL_UNLOADED: Answer(503, SERVER),
    RefusalKind.INSUFFICIENT_MEMORY: Answer(503, SERVER),
    RefusalKind.SAFE_MODE: Answer(503, SERVER),
    RefusalKind.DRAINING: Answer(503, SERVER),
    RefusalKind.MEMORY_PRESSURE: Answer(503, SERVER),
    RefusalKind.QUEUE_TIMEOUT: Answer(429, "rate_limit_error"),
    RefusalKind.REQUEST_QUARANTINED: Answer(400, INVALID),
    RefusalKind.DUPLICATE: Answer(409, INVALID),
    RefusalKind.UNSUPPORTED: Answer(400, INVALID),
}

# A time-out is 504: we, not the client (408), were too slow, and nothing broke (500). An abort is on purpose: 503.
FAILURES: Mapping[FailureKind, Answer] = {
    FailureKind.WORKER_DIED: Answer(500, SERVER),
    FailureKind.ENGINE_ERROR: Answer(500, SERVER),
    FailureKind.TIMEOUT: Answer(504, SERVER),
    FailureKind.ABORTED: Answer(503, SERVER),
    FailureKind.INTERNAL: Answer(500, SERVER),
    FailureKind.SUPERSEDED: Answer(409, INVALID),
}

# What aiohttp itself refuses: status → (code, message).
FRAMEWORK: Mapping[int, tuple[str, str]] = {
    400: ("bad_request", "The request is not valid HTTP."),
    404: ("unknown_url", "Invalid URL ({method} {path})"),
    405: ("method_not_allowed", "Not allowed to {method} on {path}."),
    413: ("request_too_large", "The request body is larger than this server accepts."),
    415: ("unsupported_content_encoding", "The body's Content-Encoding is not supported: use gzip, deflate or none."),
    417: ("expectation_failed", "The request's Expect header is not supported."),
    505: ("http_version_not_supported", "This server speaks HTTP/1.1 and HTTP/1.0."),
}


class Error(Struct, frozen=True):
    message: str
    type: str
    param: str | None
    code: str | None


class Envelope(Struct, frozen=True):
    error: Error


class ApiError(Exception):
    """The request's answer is an error. A 503 always says when to try again."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        *,
        type: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = Error(message, type or (INVALID if status < 500 else SERVER), param, code)
        self.headers = dict(headers or {})
        self.tokens: tuple[int, int] | None = None
        """Of a prompt that is too long: how many it has, and how many it may have."""
        if status == 503:
            self.headers.setdefault("Retry-After", str(RETRY_SECONDS))

    def response(self) -> web.Response:
        return web.Response(status=self.status, body=self.body(), content_type="application/json", headers=self.headers)

    def body(self) -> bytes:
        return msgspec.json.encode(Envelope(self.error))


def shown(value: object) -> str:
    """A value as it may be repeated to who sent it."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def of_refusal(refusal: Refusal, param: str | None = None) -> ApiError:
    """`param` stands in when the refusal names none but blames the prompt."""
    status, type_ = REFUSALS[refusal.kind]
    headers: dict[str, str] = {}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(refusal.retry_after)))
    elif status == 409 or status >= 429:
        headers["x-should-retry"] = "false"
    blamed = refusal.param or (param if status == 400 else None)
    error = ApiError(status, refusal.message, refusal.kind.value, blamed, type=type_, headers=headers)
    error.tokens = refusal.tokens
    return error


def of_failure(failure: Failure) -> ApiError:
    status, type_ = FAILURES[failure.kind]
    headers = {} if failure.retry else {"x-should-retry": "false"}
    return ApiError(status, failure.message, failure.kind.value, type=type_, headers=headers)


def of_framework(status: int, request: web.BaseRequest, headers: Mapping[str, str] | None = None) -> ApiError:
    """What aiohttp answers by itself (404, 405, 413, ...)."""
    code, text = FRAMEWORK.get(status, ("http_error", f"The request was answered with status {status}."))
    message = text.format(method=shown(request.method), path=shown(request.path))
    kept = {name: value for name, value in (headers or {}).items() if name.lower() in ("allow", "retry-after")}
    return ApiError(status, message, code, headers=kept)


def model_not_found(name: str) -> ApiError:
    text = f"The model `{shown(name)}` does not exist or you do not have access to it."
    return ApiError(404, text, "model_not_found", "model")


def internal() -> ApiError:
    return ApiError(500, "The server had an error while processing your request.", "internal")
