"""/admin: every machine and its diagram, every model; load, unload and adapters."""

from collections.abc import Callable
from typing import Literal
from urllib.parse import urlsplit

from aiohttp import web
from msgspec import Struct

from lmx.actors.messages import admission, caller, crash_loop
from lmx.actors.messages.ref import Ref
from lmx.http import adapters, board, inventory
from lmx.http.body import read_json
from lmx.http.errors import ApiError, model_not_found, of_refusal, shown
from lmx.http.gateway import GATEWAY
from lmx.http.mailbox import ask
from lmx.http.respond import json

Command = Callable[[str, Ref[caller.Reply]], admission.Message]
FORMATS = {"mermaid": "text/vnd.mermaid", "dot": "text/vnd.graphviz", "table": "text/markdown"}


class DiagramQuery(Struct, frozen=True):
    format: Literal["mermaid", "dot", "table"] = "mermaid"


class ModelState(Struct, frozen=True):
    model: str
    state: str


async def machines(request: web.Request) -> web.Response:
    """Tell the state of every machine, and the latest transitions."""
    return json(await board.require(request))


async def diagram(request: web.Request) -> web.Response:
    """Draw an actor's machine, with its present state marked."""
    form = request.query.get("format", "mermaid")
    if form not in FORMATS:
        text = f"Invalid value: '{shown(form)}'. Supported values are: {', '.join(map(repr, FORMATS))}."
        raise ApiError(400, text, "invalid_value", "format")
    actor = request.match_info["actor"]
    view = board.by_actor(await board.require(request)).get(actor)
    if view is None:
        raise ApiError(404, f"There is no actor `{shown(actor)}`.", "actor_not_found", "actor")
    text = request.app[GATEWAY].diagram(view.machine, view.state, form)
    return web.Response(text=text, content_type=FORMATS[form], charset="utf-8")


async def models(request: web.Request) -> web.Response:
    """Tell what each model was agreed to be, and how it does."""
    return json(inventory.of(request.app[GATEWAY].models, board.by_actor(await board.require(request))))


async def load(request: web.Request) -> web.Response:
    """Load a model, also out of quarantine. The answer is 200 once it is ready."""
    return await _settle(request, _named(request), admission.LoadModel)


async def unload(request: web.Request) -> web.Response:
    """Unload a model. The answer is 200 once its worker is gone."""
    return await _settle(request, _named(request), admission.UnloadModel)


async def adapt(request: web.Request) -> web.Response:
    """Give a model other LoRA adapters. The answer is 200 once it runs with them, or is unloaded and remembers them."""
    name = _named(request)
    wanted = await adapters.wanted(await read_json(request))
    return await _settle(request, name, lambda model, reply_to: admission.AdaptModel(model, wanted, reply_to))


async def end_safe_mode(request: web.Request) -> web.Response:
    """Let models load by themselves again, after a crash loop."""
    gateway = request.app[GATEWAY]
    check_origin(request)
    try:
        return json(await ask(gateway.crash_loop, crash_loop.Release, gateway.board_seconds))
    except TimeoutError as error:
        text = f"The crash-loop detector did not answer within {gateway.board_seconds:g} s: look at /admin/machines."
        raise ApiError(504, text, "timeout") from error


def _named(request: web.Request) -> str:
    """The model that an admin means, and may mean."""
    name = request.match_info["id"]
    check_origin(request)
    if name not in request.app[GATEWAY].models:
        raise model_not_found(name)
    return name


async def _settle(request: web.Request, name: str, command: Command) -> web.Response:
    gateway = request.app[GATEWAY]

    def make(reply_to: Ref[caller.Reply]) -> admission.Message:
        return command(name, reply_to)

    try:
        reply = await ask(gateway.admission, make, gateway.admin_seconds)
    except TimeoutError as error:
        text = f"The model did not settle within {gateway.admin_seconds:g} s; it goes on trying."
        raise ApiError(504, text, "timeout") from error
    if isinstance(reply, caller.Refused):
        raise of_refusal(reply.refusal)
    return json(ModelState(reply.model, reply.state))


def check_origin(request: web.Request) -> None:
    """Most of these posts have no body, so a browser would let any page send them."""
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.host:
        raise ApiError(403, "Pages of another origin may not do this.", "origin_not_allowed")
