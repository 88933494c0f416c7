"""POST /v1/completions: several prompts, and several choices for each, are sequences under one HTTP request."""

from typing import Any

import msgspec
from aiohttp import web
from msgspec import UNSET

from lmx.actors.messages.client import Accepted, Delta, Finished, Prefilled
from lmx.http import sse
from lmx.http.body import read
from lmx.http.completion_request import CompletionRequest
from lmx.http.errors import ApiError
from lmx.http.exchange import Exchange
from lmx.http.gateway import GATEWAY
from lmx.http.logprobs import Offsets, TextLogprobs, of_text
from lmx.http.replies import TextChoice, TextCompletion
from lmx.http.respond import send_json
from lmx.http.schemas import parsed
from lmx.http.stream import Chunks, stream
from lmx.http.written import Written
from lmx.machines.types import TokenLogprob


async def create(request: web.Request) -> web.StreamResponse:
    """Continue texts, at once or as a stream of chunks."""
    asked, asks = await read(request, lambda body: parsed(body, CompletionRequest, request.app[GATEWAY]))
    exchange = Exchange(request, "cmpl", asked.model, asks, "prompt", asked.choices, asked.keep_alive)
    async with exchange:
        if asked.stream:
            return await stream(request, exchange, TextChunks(exchange, asked))
        return await send_json(request, await _reply(exchange, asked))


async def _reply(exchange: Exchange, asked: CompletionRequest) -> TextCompletion:
    written = await exchange.collect()
    return TextCompletion(
        id=exchange.id,
        created=exchange.created,
        model=exchange.model,
        choices=tuple(_choice(index, one, asked) for index, one in enumerate(written)),
        usage=exchange.usage(),
        lmx_cache=exchange.report(),
        lmx_truncated=exchange.cut(),
    )


def _choice(index: int, one: Written, asked: CompletionRequest) -> TextChoice:
    likely = None
    if asked.logprobs is not None:
        offsets = Offsets()
        likely = _joined(of_echo(one.prompt_logprobs, offsets), of_text(one.logprobs, offsets))
    return TextChoice(index, one.echo + one.text, one.finish, likely)


def of_echo(prompt: list[TokenLogprob], offsets: Offsets) -> TextLogprobs:
    likely = of_text(prompt, offsets)
    offsets.end()
    return likely


def _joined(first: TextLogprobs, then: TextLogprobs) -> TextLogprobs:
    return TextLogprobs(
        first.tokens + then.tokens,
        first.token_logprobs + then.token_logprobs,
        first.top_logprobs + then.top_logprobs,
        first.text_offset + then.text_offset,
    )


class TextChunks(Chunks):
    """Encodes a chunk of text once for each choice; what comes with every token is filled in."""

    def __init__(self, exchange: Exchange, asked: CompletionRequest) -> None:
        self._exchange = exchange
        self._asked = asked
        self._around = [self._holes(index) for index in range(len(exchange))]
        self._offsets = [Offsets() for _ in self._around]
        self._prompts: dict[int, Written] = {}
        """Those that are echoed with log-probabilities, until they are read."""

    def opening(self, index: int, accepted: Accepted) -> bytes:
        """An empty text at least, so that the headers go out as soon as the sequence is taken."""
        echo = accepted.echo
        if self._asked.echo and self._asked.logprobs is not None:
            self._prompts[index] = Written(echo)
            echo = ""
        choice = TextChoice(index, echo, None)
        return sse.data(self._chunk(choice, lmx_truncated=self._exchange.cut(index)))

    def prefilled(self, index: int, prefilled: Prefilled) -> bytes:
        if index in self._prompts:
            self._prompts[index].add(prefilled)
        return b""

    def text(self, index: int, delta: Delta) -> bytes:
        start, middle, end = self._around[index]
        likely = b"null"
        if self._asked.logprobs is not None:
            start = self._echo(index) + start
            likely = msgspec.json.encode(of_text(delta.logprobs, self._offsets[index]))
        return start + msgspec.json.encode(delta.text) + middle + likely + end

    def finish(self, index: int, finished: Finished, reason: str) -> bytes:
        chunk = self._chunk(TextChoice(index, "", reason), lmx_cache=self._exchange.reports.get(index, UNSET))
        return self._echo(index) + sse.data(chunk)

    def end(self) -> bytes:
        usage = sse.data(self._chunk(usage=self._exchange.usage())) if self._asked.include_usage else b""
        return usage + sse.DONE

    def failed(self, error: ApiError) -> bytes:
        return sse.event_of(error.body()) + sse.DONE

    def _echo(self, index: int) -> bytes:
        """The prompt with its log-probabilities, once, when what follows it comes."""
        prompt = self._prompts.pop(index, None)
        if prompt is None:
            return b""
        likely = of_echo(prompt.prompt_logprobs, self._offsets[index])
        return sse.data(self._chunk(TextChoice(index, prompt.echo, None, likely)))

    def _holes(self, index: int) -> list[bytes]:
        return sse.holed(self._chunk(TextChoice(index, sse.HOLE, None, sse.HOLE)))

    def _chunk(self, *choices: TextChoice, **fields: Any) -> TextCompletion:
        usage = None if self._asked.include_usage else UNSET
        return TextCompletion(
            id=self._exchange.id,
            created=self._exchange.created,
            model=self._exchange.model,
            choices=choices,
            **{"usage": usage} | fields,
        )
