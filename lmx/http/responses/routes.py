"""/v1/responses: create, retrieve, delete, cancel, and what a response answers."""

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct

from lmx.http import fields, images
from lmx.http.body import read_json
from lmx.http.errors import ApiError, shown
from lmx.http.exchange import Exchange
from lmx.http.gateway import GATEWAY
from lmx.http.respond import json, send_json
from lmx.http.responses import history, listing
from lmx.http.responses.background import BACKGROUND
from lmx.http.responses.making import Making, ResponseChunks
from lmx.http.responses.reply import RUNNING, Fault, renamed
from lmx.http.responses.request import CHOICES, Include, parse
from lmx.http.responses.shelf import Shelf, ShelfError, owner_of, silent
from lmx.http.stream import stream

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


async def create(request: web.Request) -> web.StreamResponse:
    """Write a response: text, thoughts and calls of functions, as items."""
    try:
        return await _create(request)
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
    return json(listing.page(history.input_of(chain), query))


async def _create(request: web.Request) -> web.StreamResponse:
    gateway, owner = request.app[GATEWAY], owner_of(request)
    shelf = gateway.responses
    asked = parse(await read_json(request), gateway, stores=shelf is not None)
    earlier = await history.before(asked, shelf, owner)
    own = await history.own(asked, shelf, owner)
    tasks, names = await images.seen([asked.generation(earlier, own)], fetch=gateway.fetch_images)
    exchange = Exchange(request, "resp", asked.model, tasks, "input", keep_alive=asked.keep_alive)
    exchange.names = asked.names | names
    making = Making(exchange, asked, own, owner, shelf)
    if asked.background:
        return _begin(request, making, exchange)
    async with exchange:
        if asked.stream:
            return await stream(request, exchange, ResponseChunks(making))
        return await send_json(request, await making.collect())


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
