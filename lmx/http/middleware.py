"""Around every request: its record, and the envelope of whatever went wrong."""

import asyncio
from urllib.parse import quote

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from lmx.http.anthropic import envelope
from lmx.http.browser import SECURITY
from lmx.http.errors import ApiError, internal, of_framework
from lmx.http.gateway import GATEWAY
from lmx.http.record import CLIENT_GONE, RECORD, Record

PLAIN = " !#$&'()*+,/:;=?@[]~"
"""What a header may say of a model's name as it is."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@web.middleware
async def recorded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """One id, one log line and one count per request, however it ends."""
    record = request[RECORD] = Record(request)
    status = CLIENT_GONE
    try:
        response = await handler(request)
        status = response.status
        return response
    finally:
        resource = request.match_info.route.resource
        method = request.method if request.method in METHODS else "OTHER"
        record.close(status, resource.canonical if resource is not None else "unknown", method)


@web.middleware
async def enveloped(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error in the shape of the route's API. A client that is gone gets none: aiohttp has its ConnectionError."""
    try:
        return await handler(request)
    except (ConnectionError, asyncio.CancelledError):
        raise
    except ApiError as error:
        failure = error
    except web.HTTPException as error:
        failure = of_framework(error.status, request, error.headers)
    except Exception:  # noqa: BLE001 - our outermost frame: no bug may reach a client as anything but a 500
        structlog.get_logger().exception("request_crashed", request_id=request[RECORD].id)
        failure = internal()
    return _answer(request, failure)


def _answer(request: web.Request, failure: ApiError) -> web.Response:
    request[RECORD].note(error=failure.error.code)
    if request.writer.output_size > 0:
        # Half an answer is out: breaking the connection is the only honest end of it.
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionAbortedError("failed after the headers were sent")
    return enveloped_for(request, failure, request[RECORD].id)


def enveloped_for(request: web.BaseRequest, failure: ApiError, request_id: str) -> web.Response:
    """The one place that knows whose errors a route's clients read."""
    return envelope.response(failure, request_id) if envelope.speaks_to(request) else failure.response()


async def stamp(request: web.Request, response: web.StreamResponse) -> None:
    """Signal `on_response_prepare`."""
    record = request.get(RECORD) or Record(request)
    mark(response, record.id)
    if envelope.speaks_to(request):
        response.headers["request-id"] = record.id
    if record.model:
        response.headers["x-lmx-model"] = quote(record.model, safe=PLAIN)
    request.app[GATEWAY].neighbours.allow(request, response)
    if request.app[GATEWAY].closing.on:
        response.headers["Connection"] = "close"
        response.force_close()


def mark(response: web.StreamResponse, request_id: str) -> None:
    response.headers["x-request-id"] = request_id
    response.headers.update(SECURITY)
    response.headers["Server"] = "lmx"
