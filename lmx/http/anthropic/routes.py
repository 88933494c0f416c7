"""POST /v1/messages and /v1/messages/count_tokens, as Anthropic has them."""

from typing import Any

from aiohttp import web
from msgspec import UNSET, Struct

from lmx.http import images
from lmx.http.anthropic.edits import Edits, Original
from lmx.http.anthropic.events import MessageEvents
from lmx.http.anthropic.reply import Message, TokenCount, ToolUse, content_of, id_of, prompt_of, stop_of, usage_of
from lmx.http.anthropic.request import BETAS, CountRequest, MessagesRequest, parse
from lmx.http.body import read
from lmx.http.exchange import Exchange
from lmx.http.gateway import GATEWAY, Gateway
from lmx.http.presets import sampled
from lmx.http.record import RECORD
from lmx.http.respond import send_json
from lmx.http.stream import stream
from lmx.http.tokens import rendered
from lmx.machines.tasks import Rendering
from lmx.machines.types import Chat, Generation, Prompt


class Edited(Struct, frozen=True):
    """What edits leave out."""

    turns: int
    whole: Chat | None
    """With it; None = that is nothing."""


async def create(request: web.Request) -> web.StreamResponse:
    """Answer as Anthropic's API does: text, thoughts and calls as blocks, at once or as a stream of events."""
    gateway = request.app[GATEWAY]
    asked, generation, edited = await read(request, lambda body: _asked(body, gateway))
    counts = await _tokens(request, asked, edited.whole) if edited.whole is not None else [0]
    edits = Edits(asked.edits, edited.turns, counts[0])
    tasks, names = await images.seen([generation], fetch=gateway.fetch_images)
    exchange = Exchange(request, "msg", asked.model, tasks, "messages")
    _explain(exchange, asked, generation.prompt, names)
    exchange.eager = asked.eager(request.headers.getall(BETAS, [])) if asked.stream else frozenset()
    async with exchange:
        if asked.stream:
            return await stream(request, exchange, MessageEvents(exchange, request[RECORD].id, asked, edits))
        return await send_json(request, await _reply(exchange, asked, edits))


async def count_tokens(request: web.Request) -> web.StreamResponse:
    """Count the tokens of a message's prompt, tools included; nothing is generated."""
    gateway = request.app[GATEWAY]
    asked, chat, edited = await read(request, lambda body: _counted(body, gateway))
    chats = [chat] if edited.whole is None else [chat, edited.whole]
    counts = await _tokens(request, asked, *chats)
    original = Original(counts[-1]) if asked.edits else UNSET
    return await send_json(request, TokenCount(counts[0], original))


def _asked(body: dict[str, Any], gateway: Gateway) -> tuple[MessagesRequest, Generation, Edited]:
    asked = parse(body, MessagesRequest, gateway)
    return asked, sampled(asked.generation(), gateway.presets.get(asked.model), asked), _edited(asked)


def _counted(body: dict[str, Any], gateway: Gateway) -> tuple[CountRequest, Chat, Edited]:
    asked = parse(body, CountRequest, gateway)
    return asked, asked.chat(), _edited(asked)


def _edited(asked: CountRequest) -> Edited:
    turns = asked.cleared()
    return Edited(turns, asked.chat(edited=False) if turns else None)


async def _tokens(request: web.Request, asked: CountRequest, *chats: Chat) -> list[int]:
    """How many each has as a prompt."""
    fetch = request.app[GATEWAY].fetch_images
    sights = [await images.sight(chat, fetch=fetch) for chat in chats]
    renderings = [Rendering(chat, "tokens") for chat, _ in sights]
    exchange = Exchange(request, "count", asked.model, renderings, "messages")
    _explain(exchange, asked, chats[0], sights[0][1])
    async with exchange:
        return [len(rendered(one).tokens) for one in await exchange.collect()]


def _explain(exchange: Exchange, asked: CountRequest, prompt: Prompt, unseen: dict[str, str]) -> None:
    """How the client is told what its model cannot do. `unseen`: what to call images that it does not see."""
    names, advice = asked.silenced(prompt.prefill if isinstance(prompt, Chat) else "")
    exchange.names, exchange.advice, exchange.tools = unseen | names, images.advice(unseen) | advice, asked.told


async def _reply(exchange: Exchange, asked: MessagesRequest, edits: Edits) -> Message:
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
        diagnostics=asked.diagnosis,
        context_management=edits.told(prompt_of(usage)),
    )
