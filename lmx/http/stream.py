"""Streams one exchange: chunks as they come, comments while nothing does, and never a silent end."""

from time import monotonic
from typing import Protocol, assert_never

from aiohttp import web

from lmx.actors.messages.client import Accepted, Delta, Embedded, Event, Failed, Finished, Prefilled, Refused, Rendered
from lmx.http.exchange import Exchange
from lmx.http.gateway import GATEWAY
from lmx.http.mailbox import Item
from lmx.http.replies import Usage
from lmx.http.sse import DONE, PING, EventStream, event_of

QUIET_SECONDS = 10.0
"""Silence between tokens after which a comment is sent."""


class Chunks(Protocol):
    """How one route writes its chunks; b"" where it writes none."""

    def opening(self, index: int, accepted: Accepted) -> bytes: ...
    def prefilled(self, index: int, prefilled: Prefilled) -> bytes: ...
    def text(self, index: int, delta: Delta) -> bytes: ...
    def finish(self, index: int, finished: Finished) -> bytes: ...
    def usage(self, usage: Usage) -> bytes: ...


async def stream(request: web.Request, exchange: Exchange, chunks: Chunks) -> web.StreamResponse:
    """Headers are held back for one heartbeat, so that a refusal keeps its status; later ones travel as events."""
    gateway = request.app[GATEWAY]
    out = EventStream(request, gateway.write_seconds)
    items = await exchange.answered(gateway.heartbeat_seconds)
    await Streaming(out, exchange, chunks, gateway.heartbeat_seconds).run(items)
    return out.response


class Streaming:
    def __init__(self, out: EventStream, exchange: Exchange, chunks: Chunks, heartbeat: float) -> None:
        self._out = out
        self._exchange = exchange
        self._chunks = chunks
        self._pause = heartbeat
        self._failed = False

    async def run(self, items: list[Item]) -> None:
        """`items` is what came first; empty means that a heartbeat is due."""
        while True:
            written = b"".join([self._render(index, event) for index, event in items])
            if self._failed or self._exchange.done:
                break
            await self._out.send(written or self._ping())
            items = await self._exchange.take(self._pause)
        if not self._failed:
            written += self._chunks.usage(self._exchange.usage())
        await self._out.send(written + DONE)
        await self._out.end()

    def _ping(self) -> bytes:
        """A comment, if nothing has been written for a pause; the progress of a prompt alone writes nothing."""
        due = monotonic() - self._out.written_at >= self._pause
        return PING if due else b""

    def _render(self, index: int, event: Event) -> bytes:
        if self._failed:
            return b""
        match event:
            case Delta():
                self._pause = max(self._pause, QUIET_SECONDS)
                return self._chunks.text(index, event)
            case Prefilled():
                return self._chunks.prefilled(index, event)
            case Accepted():
                return self._chunks.opening(index, event)
            case Finished():
                return self._chunks.finish(index, event)
            case Refused() | Failed():
                self._failed = True
                return event_of(self._exchange.error(event).body())
            case Embedded() | Rendered():
                raise TypeError("nobody streams what comes at once")
            case _:
                assert_never(event)
