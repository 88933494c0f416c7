"""Whether a request may come in at all: by its Host and Origin, its size, and its key, in this order."""

from aiohttp import web
from aiohttp.typedefs import Handler

from lmx.http.errors import of_framework
from lmx.http.gateway import GATEWAY
from lmx.http.keys import needed


@web.middleware
async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Nothing of the body is read before all of this is known."""
    preflight = check(request)
    return preflight if preflight is not None else await handler(request)


def check(request: web.Request) -> web.Response | None:
    """The answer where that is all (a preflight), None to go on. Raises ApiError."""
    gateway = request.app[GATEWAY]
    gateway.neighbours.check(request)
    if (answer := gateway.neighbours.preflight(request)) is not None:
        return answer
    if (request.content_length or 0) > gateway.max_body_bytes:
        raise of_framework(413, request)
    resource = request.match_info.route.resource
    gateway.keys.check(needed(resource.canonical if resource is not None else None), request)
    return None
