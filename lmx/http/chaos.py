"""POST /admin/chaos/{what}: break something on purpose; only where the config has `chaos.enabled`."""

import asyncio
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from lmx.http import board
from lmx.http.admin import check_origin
from lmx.http.body import read_json
from lmx.http.errors import ApiError, shown
from lmx.http.fields import convert
from lmx.http.gateway import GATEWAY
from lmx.http.respond import json


class Wanted(Struct, frozen=True, forbid_unknown_fields=True):
    of: Annotated[str, Meta(max_length=200)]
    """A model, an actor, seconds or a share, by what is to be done."""


class Done(Struct, frozen=True):
    done: str


async def act(request: web.Request) -> web.Response:
    """Break something on purpose.

    200 with a sentence of what was done; 403 where it is switched off, and nothing is done.
    """
    breaks = request.app[GATEWAY].chaos
    check_origin(request)
    if breaks is None:
        text = "Nothing is broken on purpose here: set chaos.enabled = true in the config file and start lmx again."
        raise ApiError(403, text, "chaos_disabled")
    wanted = convert(await read_json(request), Wanted, {}, frozenset())
    views = board.by_actor(await board.require(request)).items()
    found = ((name.removeprefix(board.MODEL), view.facts.get("pid")) for name, view in views)
    workers = {name: pid for name, pid in found if isinstance(pid, int)}
    what = shown(request.match_info["what"])
    try:
        return json(Done(await asyncio.to_thread(breaks, what, wanted.of, workers)))
    except ValueError as error:
        raise ApiError(400, str(error), "invalid_value") from error
