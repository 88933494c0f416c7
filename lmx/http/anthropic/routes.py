"""POST /v1/messages and /v1/messages/count_tokens, as Anthropic has them."""

from aiohttp import web

from lmx.actors.messages.client import Rendered
from lmx.http.anthropic.events import MessageEvents
from lmx.http.anthropic.reply import Message, TokenCount, ToolUse, content_of, id_of, stop_of, usage_of
from lmx.http.anthropic.request import CountRequest, MessagesRequest, parse
from lmx.http.body import read_json
from lmx.http.exchange import Exchange
from lmx.http.gateway import GATEWAY
from lmx.http.presets import sampled
from lmx.http.record import RECORD
from lmx.http.respond import send_json
from lmx.http.stream import stream
from lmx.machines.tasks import Rendering


async def create(request: web.Request) -> web.StreamResponse:
    """Answer as Anthropic's API does: text, thoughts and calls as blocks, at once or as a stream of events."""
    gateway = request.app[GATEWAY]
    asked = parse(await read_json(request), MessagesRequest, gateway)
    generation = await asked.generation(fetch=gateway.fetch_images)
    generation = sampled(generation, gateway.presets.get(asked.model), asked)
    exchange = Exchange(request, "msg", asked.model, [generation], "messages")
    exchange.eager = asked.eager if asked.stream else frozenset()
    async with exchange:
        if asked.stream:
            return await stream(request, exchange, MessageEvents(exchange, request[RECORD].id, asked))
        return await send_json(request, await _reply(exchange, asked))


async def count_tokens(request: web.Request) -> web.StreamResponse:
    """Count the tokens of a message's prompt, tools included; nothing is generated."""
    gateway = request.app[GATEWAY]
    asked = parse(await read_json(request), CountRequest, gateway)
    rendering = Rendering(await asked.chat(fetch=gateway.fetch_images), "tokens")
    async with Exchange(request, "count", asked.model, [rendering], "messages") as exchange:
        (written,) = await exchange.collect()
        if not isinstance(written.answer, Rendered):
            raise TypeError(f"a rendering is answered with {written.answer!r}")
        return await send_json(request, TokenCount(len(written.answer.tokens)))


async def _reply(exchange: Exchange, asked: MessagesRequest) -> Message:
    (written,) = await exchange.collect()
    content, usage = content_of(written, omits_thoughts=asked.omits_thoughts), usage_of(exchange.usage())
    called = any(isinstance(block, ToolUse) for block in content)
    why = stop_of(written.reason, written.stop, called=called, full=usage.output_tokens >= asked.max_tokens)
    return Message(
        id=id_of(exchange.id),
        model=exchange.model,
        content=content,
        stop_reason=why,
        stop_sequence=written.stop if why == "stop_sequence" else None,
        usage=usage,
    )
