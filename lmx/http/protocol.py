"""One connection: aiohttp's own, but what its parser refuses is answered in the envelope too."""

import asyncio
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.http import HttpVersion10, HttpVersion11
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError
from aiohttp.web_protocol import _ErrInfo
from prometheus_client import Counter

from lmx.http.errors import ApiError, internal, of_framework, shown
from lmx.http.gateway import Gateway
from lmx.http.keys import scrubbed
from lmx.http.middleware import enveloped_for, mark
from lmx.http.patience import Patience
from lmx.http.record import RECORD, request_id

TURNED_AWAY = Counter("lmx_http_connections_refused", "Connections that were one too many.")
VERSIONS = (HttpVersion10, HttpVersion11)
UNKNOWN_VERSION = 505


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
    __slots__ = ("_door", "_header_seconds", "_header_timer", "_inside", "_patience")

    def __init__(self, gateway: Gateway, door: Door, manager: web.Server, **options: Any) -> None:
        """`options` are aiohttp's."""
        super().__init__(manager, **options)
        self._door = door
        self._inside = False
        self._header_seconds = gateway.header_seconds
        self._header_timer: asyncio.TimerHandle | None = None
        self._patience = Patience(gateway.write_seconds, self.cut)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._inside = self._door.enter()
        if self._inside:
            super().connection_made(transport)
        else:
            text = "The server has as many connections as it can hold: try again."
            cast("asyncio.Transport", transport).write(answer_to_all(ApiError(503, text, "too_many_connections")))
            transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._inside:
            self._inside = False
            self._door.leave()
            self._drop_header_timer()
            self._patience.end()
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Headers that have begun must end in time, however busily they come."""
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._drop_header_timer()
            self._refuse_other_versions()
        elif self._header_timer is None and self._idle:  # it is a header
            self._header_timer = self._loop.call_later(self._header_seconds, self._give_up)

    def pause_writing(self) -> None:
        """The kernel takes no more for this client."""
        super().pause_writing()
        if self.transport is not None:
            self._patience.begin(self.transport)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._patience.end()

    def cut(self, why: str) -> None:
        """Break the connection of a client that does not take its answer, and cancel its request."""
        request = self._current_request
        if isinstance(request, web.Request) and RECORD in request:
            request[RECORD].note(error="client_too_slow", message=why)
        structlog.get_logger().info("client_cut", client=str((self.peername or ("",))[0]), why=why)
        if self.transport is not None:
            self.transport.abort()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Also what is refused before any middleware, as an `Expect` on a route that there is not.

        After a body that is broken nobody knows where the next request begins: the connection ends.
        """
        if isinstance(resp, web.HTTPException):
            resp = enveloped_for(request, of_framework(resp.status, request, resp.headers), request_id(""))
        if request.content.exception() is None:
            return await super().finish_response(request, resp, start_time)
        resp.force_close()
        finished = await super().finish_response(request, resp, start_time)
        self.force_close()
        return finished

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
        elif status == UNKNOWN_VERSION:
            failure = of_framework(status, request)
        elif status < 500:
            log.info("request_malformed", why=shown(scrubbed(message or repr(exc))))
            failure = ApiError(
                status, f"The request is not valid HTTP: {shown(scrubbed(message or ''))}", "bad_request"
            )
        else:
            log.error("request_crashed", exc_info=exc)
            failure = internal()
        response = enveloped_for(request, failure, name)
        mark(response, name)
        response.force_close()
        return response

    @property
    def _idle(self) -> bool:
        """Nobody is being served, and nobody has asked."""
        return self._waiter is not None and not self._waiter.done()

    def _refuse_other_versions(self) -> None:
        """The parser also lets in what calls itself HTTP/2.0, and it would be answered as such."""
        for place, (message, payload) in enumerate(self._messages):
            if not isinstance(message, _ErrInfo) and message.version not in VERSIONS:
                refused = _ErrInfo(UNKNOWN_VERSION, HttpProcessingError(code=UNKNOWN_VERSION), "")
                self._messages[place] = (refused, payload)

    def _give_up(self) -> None:
        self._header_timer = None
        if self._idle and self.transport is not None:
            text = f"The headers did not arrive within {self._header_seconds:g} s."
            self.transport.write(answer_to_all(ApiError(408, text, "request_timeout")))
            self.force_close()

    def _drop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None


def answer_to_all(failure: ApiError) -> bytes:
    """The whole answer to a connection on which nothing was asked; it is closed after it."""
    response = failure.response()
    mark(response, request_id(""))
    response.headers["Connection"] = "close"
    assert isinstance(response.body, bytes)
    response.headers["Content-Length"] = str(len(response.body))
    head = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
    return f"HTTP/1.1 {response.status} {response.reason}\r\n{head}\r\n".encode() + response.body
