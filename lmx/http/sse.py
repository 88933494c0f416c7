"""Server-sent events as OpenAI's clients read them: `data:` lines only, comments as heartbeats, `[DONE]` at the end.

No `id:` lines and no empty `data:`: both make the openai client parse nothing as JSON.
"""

from math import inf
from time import monotonic
from typing import cast

import msgspec
from aiohttp import web
from aiohttp.http_writer import StreamWriter
from msgspec import Struct

from lmx.http.gateway import GATEWAY
from lmx.http.mailbox import Mailbox
from lmx.http.protocol import Protocol

PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
SMALL = 16_384
"""Bytes that asyncio takes without pausing the writer when nothing else is unsent."""
HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}


NUL = b"\0"
HOLE = msgspec.Raw(NUL)
"""A value that is filled in later; JSON itself never contains this byte."""


def data(value: Struct) -> bytes:
    return event_of(msgspec.json.encode(value))


def holed(value: Struct) -> list[bytes]:
    """The event around the holes of `value`: encoded once, where only they differ from chunk to chunk."""
    return data(value).split(NUL)


def event_of(json: bytes) -> bytes:
    return b"data: " + json + b"\n\n"


class EventStream:
    """A response whose headers go out with its first write."""

    def __init__(self, request: web.Request, mailbox: Mailbox) -> None:
        """`mailbox` is where that comes from which is to be written."""
        self.response = web.StreamResponse(headers=HEADERS)
        self._request = request
        self._mailbox = mailbox
        self._framing = False
        """Whether the headers are out and promised chunks, which we may then write ourselves."""
        self.written_at = -inf
        """When something was last sent, on the monotonic clock."""

    async def send(self, chunk: bytes) -> None:
        """Write, or raise ConnectionError: the client is gone. One that does not read is cut, and this cancelled."""
        if not chunk:
            return
        self.written_at = monotonic()
        if not self.response.prepared:
            await self.response.prepare(self._request)
        transport = self._request.transport
        if transport is not None and (len(chunk) > SMALL or transport.get_write_buffer_size()):
            await self._send_slowly(chunk)
        elif self._framing and transport is not None and not transport.is_closing():
            # aiohttp would frame it alike; its layers cost more than all else that is done for a token
            transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        else:
            await self.response.write(chunk)  # cannot block, so it needs no timer
            self._framing = isinstance(writer := self._request.writer, StreamWriter) and writer.chunked

    async def end(self) -> None:
        await self.response.write_eof()

    async def _send_slowly(self, chunk: bytes) -> None:
        """Write, and wait for the client; meanwhile what it is to be told must not become too much."""
        self._mailbox.bound(self._request.app[GATEWAY].backlog_bytes, self._overrun)
        try:
            await self.response.write(chunk)
        finally:
            self._mailbox.unbound()

    def _overrun(self) -> None:
        most = self._request.app[GATEWAY].backlog_bytes
        cast("Protocol", self._request.protocol).cut(f"It did not read; more than {most} bytes were waiting for it.")
