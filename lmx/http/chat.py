"""POST /v1/chat/completions"""

import time

import msgspec
from aiohttp import web
from msgspec import UNSET

from lmx.http import replies, sse
from lmx.http.body import read_json
from lmx.http.exchange import Exchange
from lmx.http.gateway import GATEWAY
from lmx.http.replies import AssistantMessage, ChatChoice, ChatChunk, ChatCompletion, ChunkChoice, ChunkDelta, Usage
from lmx.http.respond import send_json
from lmx.http.schemas import ChatRequest, parse
from lmx.http.stream import stream
from lmx.machines.types import FinishReason


async def create(request: web.Request) -> web.StreamResponse:
    asked = parse(await read_json(request), ChatRequest, request.app[GATEWAY])
    async with Exchange(request, "chatcmpl", asked.model, asked.generations(), "messages") as exchange:
        if asked.stream:
            return await stream(request, exchange, ChatChunks(exchange, asked.include_usage))
        return await send_json(request, await _reply(exchange))


async def _reply(exchange: Exchange) -> ChatCompletion:
    created = int(time.time())
    written = await exchange.collect()
    return ChatCompletion(
        id=exchange.id,
        created=created,
        model=exchange.model,
        choices=tuple(ChatChoice(index, AssistantMessage(one.text), one.reason) for index, one in enumerate(written)),
        usage=replies.total(one.usage for one in written),
    )


class ChatChunks:
    def __init__(self, exchange: Exchange, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._empty = ChatChunk(
            id=exchange.id,
            created=int(time.time()),
            model=exchange.model,
            choices=(),
            usage=None if include_usage else UNSET,
        )

    def opening(self, index: int) -> bytes:
        return self._chunk(ChunkChoice(index, ChunkDelta(role="assistant", content="", refusal=None)))

    def text(self, index: int, text: str) -> bytes:
        return self._chunk(ChunkChoice(index, ChunkDelta(content=text)))

    def finish(self, index: int, reason: FinishReason) -> bytes:
        return self._chunk(ChunkChoice(index, ChunkDelta(), reason))

    def usage(self, usage: Usage) -> bytes:
        return sse.data(msgspec.structs.replace(self._empty, usage=usage)) if self._include_usage else b""

    def _chunk(self, choice: ChunkChoice) -> bytes:
        return sse.data(msgspec.structs.replace(self._empty, choices=(choice,)))
