"""POST /v1/completions: several prompts are several sequences under one HTTP request."""

import time

import msgspec
from aiohttp import web
from msgspec import UNSET

from lmx.http import replies, sse
from lmx.http.body import read_json
from lmx.http.exchange import Exchange
from lmx.http.gateway import GATEWAY
from lmx.http.replies import TextChoice, TextCompletion, Usage
from lmx.http.respond import send_json
from lmx.http.schemas import CompletionRequest, parse
from lmx.http.stream import stream
from lmx.machines.types import FinishReason


async def create(request: web.Request) -> web.StreamResponse:
    asked = parse(await read_json(request), CompletionRequest, request.app[GATEWAY])
    async with Exchange(request, "cmpl", asked.model, asked.generations(), "prompt") as exchange:
        if asked.stream:
            return await stream(request, exchange, TextChunks(exchange, asked.include_usage))
        return await send_json(request, await _reply(exchange))


async def _reply(exchange: Exchange) -> TextCompletion:
    created = int(time.time())
    written = await exchange.collect()
    return TextCompletion(
        id=exchange.id,
        created=created,
        model=exchange.model,
        choices=tuple(TextChoice(index, one.text, one.reason) for index, one in enumerate(written)),
        usage=replies.total(one.usage for one in written),
    )


class TextChunks:
    def __init__(self, exchange: Exchange, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._empty = TextCompletion(
            id=exchange.id,
            created=int(time.time()),
            model=exchange.model,
            choices=(),
            usage=None if include_usage else UNSET,
        )

    def opening(self, index: int) -> bytes:
        """An empty text, so that the headers go out as soon as the sequence is taken."""
        return self.text(index, "")

    def text(self, index: int, text: str) -> bytes:
        return self._chunk(TextChoice(index, text, None))

    def finish(self, index: int, reason: FinishReason) -> bytes:
        return self._chunk(TextChoice(index, "", reason))

    def usage(self, usage: Usage) -> bytes:
        return sse.data(msgspec.structs.replace(self._empty, usage=usage)) if self._include_usage else b""

    def _chunk(self, choice: TextChoice) -> bytes:
        return sse.data(msgspec.structs.replace(self._empty, choices=(choice,)))
