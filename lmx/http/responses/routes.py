"""/v1/responses: create, count, retrieve, delete, cancel, and what a response answers."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct

from lmx.http import bulk, fields, images
from lmx.http.body import read
from lmx.http.errors import ApiError, shown
from lmx.http.exchange import Exchange
from lmx.http.gateway import GATEWAY
from lmx.http.respond import json, send_json
from lmx.http.responses import history, listing
from lmx.http.responses.background import BACKGROUND
from lmx.http.responses.items import Item
from lmx.http.responses.making import Making, ResponseChunks
from lmx.http.responses.reply import RUNNING, Fault
from lmx.http.responses.request import CHOICES, Include, ResponseRequest, parse
from lmx.http.responses.shelf import Shelf, ShelfError, Stored, owner_of, silent
from lmx.http.responses.spelling import renamed
from lmx.http.stream import stream
from lmx.http.tokens import rendered
from lmx.machines.tasks import Rendering
from lmx.machines.types import Generation

Q = TypeVar("Q", bound=Struct)
Flag = Literal["true", "false"]
INTERRUPTED = "The server was stopped before the response was finished."


class RetrieveQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """What the URL may ask for."""

    include: list[Include] = []
    """Without effect: a response is told with all that it was made with."""
    stream: Flag = "false"
    """Only `false` can be honoured."""
    include_obfuscation: Flag = "false"


class Deleted(Struct, frozen=True):
    id: str
    object: Literal["response"] = "response"
    deleted: bool = True


class InputTokens(Struct, frozen=True, kw_only=True):
    object: Literal["response.input_tokens"] = "response.input_tokens"
    input_tokens: int


class Given(NamedTuple):
    """A request, read."""

    asked: ResponseRequest
    own: Sequence[Item]
    task: Generation
    names: Mapping[str, str]
    """What the client calls what the model may refuse."""
    advice: Mapping[str, str]
    """What to do then."""


async def create(request: web.Request) -> web.StreamResponse:
    """Write a response: text, thoughts and calls of functions, as items."""
    try:
        return await _create(request)
    except ApiError as error:
        raise renamed(error) from error


async def count(request: web.Request) -> web.StreamResponse:
    """Count the tokens of a response's prompt, tools included, before any truncation; nothing is generated."""
    try:
        return await _count(request)
    except ApiError as error:
        raise renamed(error) from error


async def retrieve(request: web.Request) -> web.Response:
    """Tell a stored response."""
    query = _query(request, RetrieveQuery, frozenset({"starting_after"}))
    if query.stream == "true":
        raise fields.unsupported("stream", ": only a new response can be streamed")
    return await _found(request)


async def delete(request: web.Request) -> web.Response:
    """Delete a stored response; one that is still made is cancelled."""
    id, owner = request.match_info["id"], owner_of(request)
    await request.app[BACKGROUND].cancel(owner, id)
    try:
        known = await _shelf(request).drop(owner, id)
    except ShelfError as error:
        raise silent(error) from error
    if not known:
        raise _unknown(id)
    return json(Deleted(id))


async def cancel(request: web.Request) -> web.Response:
    """Cancel a response in the background. One that has ended stays as it is."""
    cancelled = await request.app[BACKGROUND].cancel(owner_of(request), request.match_info["id"])
    if cancelled is not None:
        return json(cancelled)
    return await _found(request, in_background=True)


async def input_items(request: web.Request) -> web.Response:
    """List what a response answers: its own input, and the conversation that it goes on from."""
    query = _query(request, listing.ItemQuery, frozenset({"before"}))
    id = request.match_info["id"]
    try:
        chain = await _shelf(request).chain(owner_of(request), id)
    except ShelfError as error:
        raise silent(error) from error
    if not chain or chain[0].previous:
        raise _unknown(chain[0].previous if chain else id)
    size = sum(stored.size for stored in chain)
    return json(await bulk.aside(size, lambda: listing.page(history.input_of(chain), query)))


async def _create(request: web.Request) -> web.StreamResponse:
    given = await _given(request)
    asked, tasks = given.asked, [given.task]
    exchange = Exchange(request, "resp", asked.model, tasks, "input", keep_alive=asked.keep_alive)
    exchange.names, exchange.advice = given.names, given.advice
    making = Making(exchange, asked, given.own, owner_of(request), request.app[GATEWAY].responses)
    if asked.background:
        return _begin(request, making, exchange)
    async with exchange:
        if asked.stream:
            return await stream(request, exchange, ResponseChunks(making))
        return await send_json(request, await making.collect())


async def _count(request: web.Request) -> web.StreamResponse:
    given = await _given(request)
    exchange = Exchange(request, "count", given.asked.model, [Rendering(given.task.prompt, "tokens")], "input")
    exchange.names, exchange.advice = given.names, given.advice
    async with exchange:
        (written,) = await exchange.collect()
        return await send_json(request, InputTokens(input_tokens=len(rendered(written).tokens)))


async def _given(request: web.Request) -> Given:
    gateway, owner = request.app[GATEWAY], owner_of(request)
    shelf = gateway.responses
    asked = await read(request, lambda body: parse(body, gateway, stores=shelf is not None))
    chain = await history.before(asked, shelf, owner, gateway.max_body_bytes)
    referred = await history.referred(asked, shelf, owner)
    size = len(await request.read()) + sum(stored.size for stored in chain)
    own, task = await bulk.aside(size, _generation, asked, chain, referred)
    (task,), names = await images.seen([task], fetch=gateway.fetch_images)
    return Given(asked, own, task, asked.names | names, images.advice(names))


def _generation(
    asked: ResponseRequest, chain: Sequence[Stored], referred: Mapping[int, Item]
) -> tuple[list[Item], Generation]:
    """The request's own items too."""
    earlier, own = history.earlier_items(asked, chain), history.own(asked, referred)
    history.check_distinct(earlier, own)
    return own, asked.generation(earlier, own)


def _begin(request: web.Request, making: Making, exchange: Exchange) -> web.Response:
    request.app[BACKGROUND].start(making, exchange)
    return json(making.response)


def _shelf(request: web.Request) -> Shelf:
    shelf = request.app[GATEWAY].responses
    if shelf is None:
        raise ApiError(404, "This server stores no responses.")
    return shelf


async def _found(request: web.Request, *, in_background: bool = False) -> web.Response:
    """As it was stored. What was at work when the server ended is told to have failed."""
    id = request.match_info["id"]
    running = id in request.app[BACKGROUND]  # before the store is asked: it is told of the end before this is
    try:
        stored = await _shelf(request).find(owner_of(request), id)
    except ShelfError as error:
        raise silent(error) from error
    if stored is None:
        raise _unknown(id)
    known = history.kept(stored)
    if in_background and not known.background:
        raise ApiError(400, "Cannot cancel a synchronous response.")
    body = stored.response
    if known.status in RUNNING and not running:
        whole = msgspec.json.decode(body) | {"status": "failed", "error": Fault("server_error", INTERRUPTED)}
        body = msgspec.json.encode(whole)
    return web.Response(body=body, content_type="application/json")


def _unknown(id: str) -> ApiError:
    return ApiError(404, f"Response with id '{shown(id)}' not found.")


def _query(request: web.Request, kind: type[Q], known: frozenset[str]) -> Q:
    """What the URL asks for; `known` are fields of OpenAI that lmx has not."""
    given: dict[str, Any] = {}
    for name in request.query:
        field, listed = name.removesuffix("[]"), request.query.getall(name)
        given[field] = listed if field == "include" else listed[-1]
    if "limit" in given and given["limit"].isdecimal():
        given["limit"] = int(given["limit"][:9])
    return fields.convert(given, kind, QUERY_CHOICES, known)


QUERY_CHOICES: Mapping[str, tuple[str, ...]] = {
    "include": CHOICES["include"],
    "order": ("asc", "desc"),
    "stream": ("true", "false"),
    "include_obfuscation": ("true", "false"),
}
