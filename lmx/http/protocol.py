"""One connection: aiohttp's own, but what its parser refuses is answered in the envelope too."""

import asyncio
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError
from prometheus_client import Counter

from lmx.http.errors import ApiError, internal, of_framework, shown
from lmx.http.keys import scrubbed
from lmx.http.middleware import mark
from lmx.http.record import request_id

TURNED_AWAY = Counter("lmx_http_connections_refused", "Connections that were one too many.")


class Door:
    """Lets in so many connections at the same time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inside = 0

    def enter(self) -> bool:
        if self._inside >= self._limit:
            TURNED_AWAY.inc()
            return False
        self._inside += 1
        return True

    def leave(self) -> None:
        self._inside -= 1


class Protocol(web.RequestHandler):
    __slots__ = ("_door", "_inside")

    def __init__(self, door: Door, manager: web.Server, **options: Any) -> None:
        """`options` are aiohttp's."""
        super().__init__(manager, **options)
        self._door = door
        self._inside = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._inside = self._door.enter()
        if self._inside:
            super().connection_made(transport)
        else:
            cast("asyncio.Transport", transport).write(full())
            transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._inside:
            self._inside = False
            self._door.leave()
            super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What never reached a route; the connection closes after it."""
        if isinstance(exc, ConnectionError):
            raise exc  # the client is gone, perhaps with half of its body sent: no fault of ours
        if request.writer.output_size > 0:
            raise ConnectionError("half an answer is out")
        name = request_id("")
        log = structlog.get_logger().bind(request_id=name, client=request.remote, status=status)
        if isinstance(exc, ContentEncodingError):
            failure = of_framework(415, request)
        elif status < 500:
            log.info("request_malformed", why=shown(scrubbed(message or repr(exc))))
            failure = ApiError(
                status, f"The request is not valid HTTP: {shown(scrubbed(message or ''))}", "bad_request"
            )
        else:
            log.error("request_crashed", exc_info=exc)
            failure = internal()
        response = failure.response()
        mark(response, name)
        response.force_close()
        return response


def full() -> bytes:
    """The answer to a connection that is not let in, whatever it wants to ask."""
    failure = ApiError(503, "The server has as many connections as it can hold: try again.", "too_many_connections")
    response = failure.response()
    mark(response, request_id(""))
    response.headers["Connection"] = "close"
    assert isinstance(response.body, bytes)
    response.headers["Content-Length"] = str(len(response.body))
    head = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
    return f"HTTP/1.1 503 Service Unavailable\r\n{head}\r\n".encode() + response.body
