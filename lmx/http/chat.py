"""POST /v1/chat/completions"""

from collections.abc import Sequence
from typing import Any

import msgspec
from aiohttp import web
from msgspec import UNSET

from lmx.actors.messages.client import Accepted, Delta, Finished, Prefilled
from lmx.formats.parts import CallArguments, CallBegun, CallEnded, Part, Said, Thought
from lmx.http import images, logprobs, sse
from lmx.http.body import read
from lmx.http.chat_request import ChatRequest
from lmx.http.errors import ApiError
from lmx.http.exchange import Exchange
from lmx.http.gateway import GATEWAY
from lmx.http.replies import (
    AssistantMessage,
    CalledFunction,
    CalledPiece,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChunkChoice,
    ChunkDelta,
    ToolCall,
    ToolCallPiece,
)
from lmx.http.respond import send_json
from lmx.http.schemas import parsed
from lmx.http.stream import Chunks, stream
from lmx.http.tools import call_id
from lmx.http.written import Written
from lmx.machines.types import TokenLogprob

NO_LOGPROBS = b"null"


async def create(request: web.Request) -> web.StreamResponse:
    """Answer a chat, at once or as a stream of chunks."""
    gateway = request.app[GATEWAY]
    asked, asks = await read(request, lambda body: parsed(body, ChatRequest, gateway))
    asks, names = await images.seen(asks, fetch=gateway.fetch_images)
    exchange = Exchange(request, "chatcmpl", asked.model, asks, "messages", asked.choices, asked.keep_alive)
    exchange.names, exchange.advice = names | asked.names, images.advice(names)
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
    return ChatChoice(index, _message(one), one.finish, likely)


def _message(one: Written) -> AssistantMessage:
    calls = tuple(ToolCall(call_id(call.id), CalledFunction(call.name, call.arguments)) for call in one.calls)
    thought = one.thought or UNSET
    return AssistantMessage(
        content=one.text or None if calls else one.text,
        tool_calls=calls or UNSET,
        reasoning_content=thought,
        reasoning=thought,
    )


class ChatChunks(Chunks):
    """Encodes a chunk of text once for each choice; what comes with every token is filled in."""

    def __init__(self, exchange: Exchange, asked: ChatRequest) -> None:
        self._exchange = exchange
        self._asked = asked
        self._around = [self._holes(index) for index in range(len(exchange))]
        self._mute: set[int] = set()
        """Choices whose content is null so far."""

    def opening(self, index: int, accepted: Accepted) -> bytes:
        """The content is null at first where calls may come in place of it."""
        speech = accepted.speech
        if speech is not None and speech.calls and self._asked.tools:
            self._mute.add(index)
        content = None if index in self._mute else ""
        choice = ChunkChoice(index, ChunkDelta(role="assistant", content=content, refusal=None))
        return sse.data(self._chunk(choice, lmx_truncated=self._exchange.cut(index)))

    def prefilled(self, index: int, prefilled: Prefilled) -> bytes:
        return b""

    def text(self, index: int, delta: Delta) -> bytes:
        return self._said(index, delta.text, self._likely(delta.logprobs))

    def parts(self, index: int, parts: Sequence[Part], logprobs: tuple[TokenLogprob, ...]) -> bytes:
        """One chunk each; the first one has the log-probabilities of all."""
        likely = self._likely(logprobs)
        written = []
        for part in parts:
            if isinstance(part, CallEnded):
                continue
            written.append(self._part(index, part, likely))
            likely = NO_LOGPROBS
        if not written and likely != NO_LOGPROBS:
            written.append(self._delta(index, ChunkDelta(), likely))
        return b"".join(written)

    def finish(self, index: int, finished: Finished, reason: str) -> bytes:
        silent = index in self._mute and reason != "tool_calls"
        choice = ChunkChoice(index, ChunkDelta(content="") if silent else ChunkDelta(), reason)
        return sse.data(self._chunk(choice, lmx_cache=self._exchange.reports.get(index, UNSET)))

    def end(self) -> bytes:
        usage = sse.data(self._chunk(usage=self._exchange.usage())) if self._asked.include_usage else b""
        return usage + sse.DONE

    def failed(self, error: ApiError) -> bytes:
        return sse.event_of(error.body()) + sse.DONE

    def _part(self, index: int, part: Said | Thought | CallBegun | CallArguments, likely: bytes) -> bytes:
        match part:
            case Said(text):
                self._mute.discard(index)
                return self._said(index, text, likely)
            case Thought(text):
                return self._delta(index, ChunkDelta(reasoning_content=text, reasoning=text), likely)
            case CallBegun(number, name, id):
                piece = ToolCallPiece(number, CalledPiece(name), call_id(id), "function")
            case CallArguments(number, text):
                piece = ToolCallPiece(number, CalledPiece(arguments=text))
        return self._delta(index, ChunkDelta(tool_calls=(piece,)), likely)

    def _said(self, index: int, text: str, likely: bytes) -> bytes:
        start, middle, end = self._around[index]
        return start + msgspec.json.encode(text) + middle + likely + end

    def _delta(self, index: int, delta: ChunkDelta, likely: bytes) -> bytes:
        return sse.data(self._chunk(ChunkChoice(index, delta, logprobs=msgspec.Raw(likely))))

    def _likely(self, tokens: tuple[TokenLogprob, ...]) -> bytes:
        return msgspec.json.encode(logprobs.of_chat(tokens)) if self._asked.logprobs else NO_LOGPROBS

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
