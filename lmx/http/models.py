"""GET /v1/models and /v1/models/{id}"""

from collections.abc import Mapping

from aiohttp import web

from lmx.actors.messages.journal import MachineView
from lmx.http import board
from lmx.http.errors import model_not_found
from lmx.http.gateway import GATEWAY, Gateway
from lmx.http.replies import Model, Models
from lmx.http.respond import json


async def listing(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    views = await _views(request)
    return json(Models(tuple(_model(name, gateway, views) for name in (*gateway.models, *gateway.aliases))))


async def retrieve(request: web.Request) -> web.Response:
    """Ids may contain slashes; they are looked up, never made into a path."""
    gateway = request.app[GATEWAY]
    name = request.match_info["id"]
    if not gateway.offers(name):
        raise model_not_found(name)
    return json(_model(name, gateway, await _views(request)))


async def _views(request: web.Request) -> Mapping[str, MachineView]:
    """A list of models is worth having without their states."""
    try:
        return board.by_actor(await board.read(request))
    except TimeoutError:
        return {}


def _model(name: str, gateway: Gateway, views: Mapping[str, MachineView]) -> Model:
    """An alias shows the model that it means."""
    moved = views.get(board.ALIAS + name)
    view = views.get(board.MODEL + (name if moved is None else str(moved.facts.get("means"))))
    if view is None:
        return Model(id=name, created=gateway.started, state="unknown", facts={})
    return Model(id=name, created=gateway.started, state=view.state, reason=view.reason, facts=dict(view.facts))
