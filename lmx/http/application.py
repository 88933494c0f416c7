"""The routes, and the listener that serves them."""

import asyncio
import os
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from lmx.http import (
    admin,
    aliases,
    chaos,
    chat,
    completions,
    embeddings,
    guard,
    health,
    journal,
    models,
    rerank,
    tokens,
)
from lmx.http.errors import ApiError, of_framework
from lmx.http.gateway import GATEWAY, POST, Gateway
from lmx.http.mailbox import Post
from lmx.http.middleware import enveloped, recorded, stamp
from lmx.http.page import Page
from lmx.http.protocol import Door, Protocol
from lmx.http.readiness import PROOFS, Proofs

KEEPALIVE_SECONDS = 75.0
BACKLOG = 512
"""Connections that the kernel holds for us."""
BATCH = 8
"""How many of them are taken before those that are there get their turn."""


def build(gateway: Gateway) -> web.Application:
    app = web.Application(middlewares=[recorded, enveloped, guard.guarded], client_max_size=gateway.max_body_bytes)
    app[GATEWAY] = gateway
    app[PROOFS] = Proofs()
    app.on_startup.append(_open_post)
    app.on_response_prepare.append(stamp)
    page = Page()
    _route(app, "POST", "/v1/chat/completions", chat.create)
    _route(app, "POST", "/v1/completions", completions.create)
    _route(app, "POST", "/v1/embeddings", embeddings.create)
    _route(app, "POST", "/v1/rerank", rerank.create)
    _route(app, "POST", "/rerank", rerank.create)
    _route(app, "POST", "/tokenize", tokens.tokenize)
    _route(app, "POST", "/detokenize", tokens.detokenize)
    _route(app, "POST", "/apply-template", tokens.apply_template)
    _route(app, "GET", "/v1/models", models.listing)
    _route(app, "GET", "/v1/models/{id:.+}", models.retrieve)
    _route(app, "GET", "/healthz", health.live)
    _route(app, "GET", "/livez", health.live)
    _route(app, "GET", "/startupz", health.started)
    _route(app, "GET", "/readyz", health.ready)
    _route(app, "GET", "/admin/health", health.deep)
    _route(app, "GET", "/metrics", health.metrics)
    _route(app, "GET", "/admin/journal", journal.read)
    _route(app, "GET", "/admin/machines", admin.machines)
    _route(app, "GET", "/admin/machines/{actor:.+}/diagram", admin.diagram)
    _route(app, "GET", "/admin/models", admin.models)
    _route(app, "POST", "/admin/models/{id:.+}/load", admin.load)
    _route(app, "POST", "/admin/models/{id:.+}/unload", admin.unload)
    _route(app, "POST", "/admin/models/{id:.+}/adapters", admin.adapt)
    _route(app, "GET", "/admin/aliases", aliases.listing)
    _route(app, "POST", "/admin/aliases/{alias:.+}", aliases.swap)
    _route(app, "POST", "/admin/safe-mode/release", admin.end_safe_mode)
    _route(app, "POST", "/admin/chaos/{what}", chaos.act)
    _route(app, "GET", "/", page.index)
    _route(app, "GET", "/static/{name}", page.file)
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
        factory = _factory(runner, Door(app[GATEWAY].max_connections))
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


def _factory(runner: web.AppRunner, door: Door) -> Callable[[], Protocol]:
    """Makes connections of our own class; aiohttp's runner would make its own."""
    manager = runner.server
    assert manager is not None
    loop = asyncio.get_running_loop()
    # aiohttp's own way to switch its access log off, though its annotation does not say so.
    off: Any = None
    return lambda: Protocol(door, manager, loop=loop, keepalive_timeout=KEEPALIVE_SECONDS, access_log=off)


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
        return failure.response()
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
