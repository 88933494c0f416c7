"""Large JSON is sent packed to who asks for it; streams and small answers never are."""

import asyncio
import gzip

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

LARGE = 32 * 1024
"""Bytes from which on packing is worth its time."""
LEVEL = 1
"""More costs more than it saves: numbers hardly pack better."""


@web.middleware
async def packed(request: web.Request, handler: Handler) -> web.StreamResponse:
    response = await handler(request)
    if isinstance(response, web.Response) and not response.prepared:
        await pack(request, response)
    return response


async def pack(request: web.Request, response: web.Response) -> None:
    """Pack the body in place, where it is large JSON and the client unpacks gzip. The event loop does not wait."""
    body = response.body
    if response.content_type != "application/json" or not isinstance(body, bytes) or len(body) < LARGE:
        return
    response.headers.add(hdrs.VARY, hdrs.ACCEPT_ENCODING)
    if accepts_gzip(", ".join(request.headers.getall(hdrs.ACCEPT_ENCODING, ()))):
        response.body = await asyncio.to_thread(gzip.compress, body, LEVEL)
        response.headers[hdrs.CONTENT_ENCODING] = "gzip"


def accepts_gzip(header: str) -> bool:
    """RFC 9110, 12.5.3: named with a weight above 0, or not named and covered by `*`."""
    weights = {}
    for part in header.lower().split(","):
        name, *options = (piece.strip() for piece in part.split(";"))
        weights[name] = next((option[2:] for option in options if option.startswith("q=")), "1")
    given = weights.get("gzip", weights.get("x-gzip", weights.get("*", "0")))
    return given.strip("0.") != ""
