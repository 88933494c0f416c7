"""GET /admin/aliases, POST /admin/aliases/{alias}: other names of models, and their way to other models."""

from aiohttp import web
from msgspec import Struct

from lmx.actors.messages import alias
from lmx.actors.messages.journal import MachineView
from lmx.actors.messages.ref import Ref
from lmx.http import board
from lmx.http.admin import check_origin
from lmx.http.body import read_json
from lmx.http.errors import ApiError, model_not_found, shown
from lmx.http.fields import convert
from lmx.http.gateway import GATEWAY
from lmx.http.mailbox import ask
from lmx.http.respond import json


class Alias(Struct, frozen=True):
    """What an alias means now, and what its machine is at."""

    alias: str
    model: str
    state: str
    reason: str = ""
    fallbacks: tuple[str, ...] = ()
    """Who is asked, in this order, for what the model cannot serve; a swap moves only the model itself."""


class Wanted(Struct, frozen=True, forbid_unknown_fields=True):
    model: str


async def listing(request: web.Request) -> web.Response:
    """List the aliases, and what they mean."""
    views = board.by_actor(await board.require(request))
    gateway = request.app[GATEWAY]
    known = ((name, views.get(board.ALIAS + name)) for name in gateway.aliases)
    return json([_alias(name, view, gateway.fallbacks.get(name, ())) for name, view in known if view])


async def swap(request: web.Request) -> web.Response:
    """Let an alias mean another model.

    200 once it means the model that was asked for, 409 when it stays as it was.
    """
    gateway = request.app[GATEWAY]
    check_origin(request)
    name = request.match_info["alias"]
    actor = gateway.aliases.get(name)
    if actor is None:
        raise ApiError(404, f"There is no alias `{shown(name)}`.", "alias_not_found", "alias")
    wanted = convert(await read_json(request), Wanted, {}, frozenset())
    if wanted.model not in gateway.models:
        raise model_not_found(wanted.model)

    def make(reply_to: Ref[alias.Moved | alias.Stayed]) -> alias.Message:
        return alias.Swap(wanted.model, reply_to)

    try:
        answer = await ask(actor, make, gateway.admin_seconds)
    except TimeoutError as error:
        text = f"The swap did not end within {gateway.admin_seconds:g} s; it goes on."
        raise ApiError(504, text, "timeout") from error
    if isinstance(answer, alias.Stayed):
        raise ApiError(409, f"{name} means {answer.model} as before: {answer.reason}", "swap_failed", "model")
    others = tuple(model for model in gateway.fallbacks.get(name, ()) if model != answer.model)
    return json(Alias(name, answer.model, "steady", fallbacks=others))


def _alias(name: str, view: MachineView, fallbacks: tuple[str, ...]) -> Alias:
    means = str(view.facts.get("means"))
    return Alias(name, means, view.state, view.reason, tuple(model for model in fallbacks if model != means))
