"""JSON answers."""

from typing import Any

import msgspec
from aiohttp import web

from lmx.http.packing import pack


def json(value: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")


async def send_json(request: web.Request, value: Any) -> web.Response:
    """Answer now, down to the last byte: whoever holds something for this request may let go of it."""
    response = json(value)
    await pack(request, response)
    await response.prepare(request)
    await response.write_eof()
    return response
