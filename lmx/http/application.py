"""The routes, and the listener that serves them."""

import asyncio
import os
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from lmx.http import guard
from lmx.http.errors import ApiError, of_framework
from lmx.http.gateway import GATEWAY, POST, Gateway
from lmx.http.mailbox import Post
from lmx.http.middleware import enveloped, enveloped_for, recorded, stamp
from lmx.http.packing import packed
from lmx.http.page import Page
from lmx.http.protocol import Door, Protocol
from lmx.http.readiness import PROOFS, Proofs
from lmx.http.record import request_id
from lmx.http.responses.background import BACKGROUND, Background
from lmx.http.routes import ROUTES
from lmx.http.viewer import viewer

BACKLOG = 512
"""Connections that the kernel holds for us."""
BATCH = 8
"""How many of them are taken before those that are there get their turn."""


def build(gateway: Gateway) -> web.Application:
    app = web.Application(
        middlewares=[recorded, enveloped, guard.guarded, packed], client_max_size=gateway.max_body_bytes
    )
    app[GATEWAY] = gateway
    app[PROOFS] = Proofs()
    app[BACKGROUND] = Background()
    app.on_shutdown.append(app[BACKGROUND].close)
    app.on_startup.append(_open_post)
    app.on_response_prepare.append(stamp)
    page = Page()
    for route in ROUTES:
        _route(app, route.method, route.path, route.handler)
    _route(app, "GET", "/", page.index)
    _route(app, "GET", "/static/{name}", page.file)
    _route(app, "GET", "/openapi.json", viewer().description)
    _route(app, "GET", "/docs", viewer().index)
    _route(app, "GET", "/docs/{name}", viewer().file)
    return app


class Site:
    """A bound port."""

    def __init__(self, runner: web.AppRunner, server: asyncio.Server) -> None:
        self._runner = runner
        self._server = server
        self.port: int = server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Take no more connections, from now on; those that there are go on. Doing it twice is doing it once."""
        self._server.close()

    async def stop(self) -> None:
        """Close; requests in flight have the shutdown time-out to end, then they are cancelled."""
        self.close()
        await self._runner.cleanup()


async def start(app: web.Application, host: str, port: int, shutdown_seconds: float = 10.0) -> Site:
    """Listen on `host`:`port` (0 = any free one). Raises OSError when that cannot be."""
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=shutdown_seconds)
    await runner.setup()
    try:
        factory = _factory(runner, app[GATEWAY])
        server = await asyncio.get_running_loop().create_server(factory, host, port, backlog=BATCH)
        for sock in server.sockets:
            _widen(sock.fileno())
    except OSError:
        await runner.cleanup()
        raise
    return Site(runner, server)


def _widen(fd: int) -> None:
    """asyncio accepts as many at once as its backlog, and would open a file for each before it closes any."""
    with socket.socket(fileno=os.dup(fd)) as same:
        same.listen(BACKLOG)


def _factory(runner: web.AppRunner, gateway: Gateway) -> Callable[[], Protocol]:
    """Makes connections of our own class; aiohttp's runner would make its own."""
    manager, door = runner.server, Door(gateway.max_connections)
    assert manager is not None
    loop = asyncio.get_running_loop()
    # aiohttp's own way to switch its access log off, though its annotation does not say so.
    off: Any = None
    return lambda: Protocol(gateway, door, manager, loop=loop, keepalive_timeout=gateway.idle_seconds, access_log=off)


def _route(app: web.Application, method: str, path: str, handler: Handler) -> None:
    if method == "GET":
        app.router.add_route("HEAD", path, handler, expect_handler=_expect)
    app.router.add_route(method, path, handler, expect_handler=_expect)


async def _open_post(app: web.Application) -> None:
    app[POST] = Post(asyncio.get_running_loop())


async def _expect(request: web.Request) -> web.StreamResponse | None:
    """Before a client sends a large body: go on, or do not bother."""
    failure = _unexpected(request)
    if failure is not None:
        return enveloped_for(request, failure, request_id(request.headers.get("X-Request-ID", "")))
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0
    return None


def _unexpected(request: web.Request) -> ApiError | None:
    if request.headers[hdrs.EXPECT].lower() != "100-continue":
        return of_framework(HTTPStatus.EXPECTATION_FAILED, request)
    if (request.content_length or 0) > request.app[GATEWAY].max_body_bytes:
        return of_framework(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, request)
    try:
        guard.check(request)
    except ApiError as error:
        return error
    return None
