"""One connection: aiohttp's own, but what its parser refuses is answered in the envelope too."""

import structlog
from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError

from lmx.http.errors import ApiError, internal, of_framework, shown
from lmx.http.middleware import mark
from lmx.http.record import request_id


class Protocol(web.RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What never reached a route; the connection closes after it."""
        if request.writer.output_size > 0:
            raise ConnectionError("half an answer is out")
        name = request_id("")
        log = structlog.get_logger().bind(request_id=name, client=request.remote, status=status)
        if isinstance(exc, ContentEncodingError):
            failure = of_framework(415, request)
        elif status < 500:
            log.info("request_malformed", why=shown(message or repr(exc)))
            failure = ApiError(status, f"The request is not valid HTTP: {shown(message or '')}", "bad_request")
        else:
            log.error("request_crashed", exc_info=exc)
            failure = internal()
        response = failure.response()
        mark(response, name)
        response.force_close()
        return response
