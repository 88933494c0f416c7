"""Streams one exchange: chunks as they come, comments while nothing does, and never a silent end."""

from collections.abc import Sequence
from time import monotonic
from typing import Protocol, assert_never

from aiohttp import web

from lmx.actors.messages.client import Accepted, Delta, Embedded, Event, Failed, Finished, Prefilled, Refused, Rendered
from lmx.formats.parts import Part
from lmx.http.errors import ApiError
from lmx.http.exchange import Exchange
from lmx.http.gateway import GATEWAY
from lmx.http.mailbox import Item
from lmx.http.sse import PING, EventStream
from lmx.http.written import finish_of
from lmx.machines.types import TokenLogprob

QUIET_SECONDS = 10.0
"""Silence between tokens after which a comment is sent."""


class Chunks(Protocol):
    """How one route writes its chunks; b"" where it writes none."""

    def opening(self, index: int, accepted: Accepted) -> bytes: ...
    def prefilled(self, index: int, prefilled: Prefilled) -> bytes: ...

    def text(self, index: int, delta: Delta) -> bytes:
        """Of a sequence whose text is nothing but its answer."""
        ...

    def parts(self, index: int, parts: Sequence[Part], logprobs: tuple[TokenLogprob, ...]) -> bytes:
        """What a piece of text means, where it may be more than that; `logprobs` are those of the piece."""
        raise TypeError("only chats have parts")

    def finish(self, index: int, finished: Finished, reason: str) -> bytes:
        """`reason` is OpenAI's word for it: stop, length or tool_calls."""
        ...

    def end(self) -> bytes:
        """After the last sequence: what it all cost, and the route's own end."""
        ...

    def failed(self, error: ApiError) -> bytes:
        """The request ends with it; also the last thing on the stream."""
        ...

    def ping(self) -> bytes:
        """In place of silence."""
        return PING


async def stream(request: web.Request, exchange: Exchange, chunks: Chunks) -> web.StreamResponse:
    """Headers are held back for one heartbeat, so that a refusal keeps its status; later ones travel as events."""
    gateway = request.app[GATEWAY]
    out = EventStream(request, exchange.mailbox)
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
            written += self._chunks.end()
        await self._out.send(written)
        await self._out.end()

    def _ping(self) -> bytes:
        """A sign of life, if nothing has been written for a pause; the progress of a prompt alone writes nothing."""
        due = monotonic() - self._out.written_at >= self._pause
        return self._chunks.ping() if due else b""

    def _render(self, index: int, event: Event) -> bytes:
        if self._failed:
            return b""
        match event:
            case Delta():
                self._pause = max(self._pause, QUIET_SECONDS)
                return self._text(index, event)
            case Prefilled():
                return self._chunks.prefilled(index, event)
            case Accepted():
                return self._chunks.opening(index, event)
            case Finished():
                return self._finish(index, event)
            case Refused() | Failed():
                self._failed = True
                return self._chunks.failed(self._exchange.error(event))
            case Embedded() | Rendered():
                raise TypeError("nobody streams what comes at once")
            case _:
                assert_never(event)

    def _text(self, index: int, delta: Delta) -> bytes:
        parting = self._exchange.partings.get(index)
        if parting is None:
            return self._chunks.text(index, delta)
        parts = parting.feed(delta.text)
        return self._chunks.parts(index, parts, delta.logprobs) if parts or delta.logprobs else b""

    def _finish(self, index: int, finished: Finished) -> bytes:
        parting = self._exchange.partings.get(index)
        if parting is None:
            return self._chunks.finish(index, finished, finished.reason)
        rest = parting.end()
        written = self._chunks.parts(index, rest, ()) if rest else b""
        called = parting.called and parting.whole
        return written + self._chunks.finish(index, finished, finish_of(finished.reason, called=called))
