"""The JSON body of a request, or the 400 (408, 413, 415) that it deserves."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from aiohttp.client_exceptions import ClientPayloadError
from aiohttp.http_exceptions import HttpProcessingError

from lmx.http import bulk
from lmx.http.errors import ApiError, of_framework, shown
from lmx.http.gateway import GATEWAY

R = TypeVar("R")

ENCODINGS = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})
NOT_JSON = (
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library"
    " correctly. The server expects a JSON payload, but what was sent was not valid JSON.)"
)


async def read_json(request: web.Request) -> dict[str, Any]:
    """The body as a JSON object. NaN, infinities, lone surrogates and bad UTF-8 are not JSON; the last key wins."""
    return await read(request, lambda body: body)


async def read(request: web.Request, make: Callable[[dict[str, Any]], R]) -> R:
    """What `make` makes of the body as a JSON object: on another thread where it is large."""
    _check_headers(request)
    data = await _read(request)
    return await bulk.aside(len(data), lambda: make(_object(data)))


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = bulk.decoded(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(400, NOT_JSON, "invalid_json") from error
    if not isinstance(value, dict):
        raise ApiError(400, "The body of the request must be a JSON object.", "invalid_type")
    return value


def _check_headers(request: web.Request) -> None:
    charset = (request.charset or "utf-8").lower()
    if request.content_type != "application/json" or charset not in ("utf-8", "utf8"):
        given = shown(request.headers.get("Content-Type", "none"))
        text = f"Unsupported Content-Type: '{given}'. This API only accepts 'application/json' in UTF-8."
        raise ApiError(400, text, "unsupported_content_type")
    if request.headers.get("Content-Encoding", "").strip().lower() not in ENCODINGS:
        raise of_framework(415, request)
    if (request.content_length or 0) > request.app[GATEWAY].max_body_bytes:
        raise of_framework(413, request)


async def _read(request: web.Request) -> bytes:
    seconds = request.app[GATEWAY].body_seconds
    try:
        return await asyncio.wait_for(request.read(), seconds)
    except TimeoutError as error:
        text = f"The body did not arrive within {seconds:g} s."
        raise ApiError(408, text, "request_timeout", headers={"Connection": "close"}) from error
    except (web.RequestPayloadError, ClientPayloadError, HttpProcessingError) as error:
        raise ApiError(400, "The body could not be decoded.", "invalid_body") from error
