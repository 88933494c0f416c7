"""POST /v1/chat/completions"""

from typing import Any

import msgspec
from aiohttp import web
from msgspec import UNSET

from lmx.actors.messages.client import Accepted, Delta, Finished, Prefilled
from lmx.http import logprobs, sse
from lmx.http.body import read_json
from lmx.http.exchange import Exchange, Written
from lmx.http.gateway import GATEWAY
from lmx.http.replies import AssistantMessage, ChatChoice, ChatChunk, ChatCompletion, ChunkChoice, ChunkDelta, Usage
from lmx.http.respond import send_json
from lmx.http.schemas import ChatRequest, parse
from lmx.http.stream import stream


async def create(request: web.Request) -> web.StreamResponse:
    asked = parse(await read_json(request), ChatRequest, request.app[GATEWAY])
    asks = asked.generations()
    exchange = Exchange(request, "chatcmpl", asked.model, asks, "messages", asked.choices, asked.keep_alive)
    async with exchange:
        if asked.stream:
            return await stream(request, exchange, ChatChunks(exchange, asked))
        return await send_json(request, await _reply(exchange, asked))


async def _reply(exchange: Exchange, asked: ChatRequest) -> ChatCompletion:
    written = await exchange.collect()
    return ChatCompletion(
        id=exchange.id,
        created=exchange.created,
        model=exchange.model,
        choices=tuple(_choice(index, one, asked) for index, one in enumerate(written)),
        usage=exchange.usage(),
        service_tier=asked.tier,
        lmx_cache=exchange.report(),
        lmx_truncated=exchange.cut(),
    )


def _choice(index: int, one: Written, asked: ChatRequest) -> ChatChoice:
    likely = logprobs.of_chat(one.logprobs) if asked.logprobs else None
    return ChatChoice(index, AssistantMessage(one.text), one.reason, likely)


class ChatChunks:
    """Encodes a chunk of text once for each choice; what comes with every token is filled in."""

    def __init__(self, exchange: Exchange, asked: ChatRequest) -> None:
        self._exchange = exchange
        self._asked = asked
        self._around = [self._holes(index) for index in range(len(exchange))]

    def opening(self, index: int, accepted: Accepted) -> bytes:
        choice = ChunkChoice(index, ChunkDelta(role="assistant", content="", refusal=None))
        return sse.data(self._chunk(choice, lmx_truncated=self._exchange.cut(index)))

    def prefilled(self, index: int, prefilled: Prefilled) -> bytes:
        return b""

    def text(self, index: int, delta: Delta) -> bytes:
        start, middle, end = self._around[index]
        likely = msgspec.json.encode(logprobs.of_chat(delta.logprobs)) if self._asked.logprobs else b"null"
        return start + msgspec.json.encode(delta.text) + middle + likely + end

    def finish(self, index: int, finished: Finished) -> bytes:
        choice = ChunkChoice(index, ChunkDelta(), finished.reason)
        return sse.data(self._chunk(choice, lmx_cache=self._exchange.reports.get(index, UNSET)))

    def usage(self, usage: Usage) -> bytes:
        return sse.data(self._chunk(usage=usage)) if self._asked.include_usage else b""

    def _holes(self, index: int) -> list[bytes]:
        return sse.holed(self._chunk(ChunkChoice(index, ChunkDelta(content=sse.HOLE), logprobs=sse.HOLE)))

    def _chunk(self, *choices: ChunkChoice, **fields: Any) -> ChatChunk:
        usage = None if self._asked.include_usage else UNSET
        return ChatChunk(
            id=self._exchange.id,
            created=self._exchange.created,
            model=self._exchange.model,
            choices=choices,
            service_tier=self._asked.tier,
            **{"usage": usage} | fields,
        )
