"""GET /v1/discovery and /.well-known/lmx: all that a program needs to find its way, without a secret."""

from typing import Literal

from aiohttp import web
from msgspec import UNSET, Struct, UnsetType

from lmx import __version__
from lmx.http import models
from lmx.http.gateway import GATEWAY, Gateway
from lmx.http.keys import KeyRing, Role
from lmx.http.replies import Capabilities
from lmx.http.respond import json

INFERENCE = frozenset({Role.INFERENCE})
# API, its base URL for clients of that kind, and a route without which it is not spoken.
APIS = (
    ("openai", "/v1", "/v1/chat/completions"),
    ("responses", "/v1", "/v1/responses"),
    ("anthropic", "", "/v1/messages"),
    ("rerank", "/v1", "/v1/rerank"),
)


class Api(Struct, frozen=True):
    name: str
    base_url: str
    """What a client of this API is to be given as its base URL."""
    path: str
    """The same below the server's address."""


class Reach(Struct, frozen=True):
    method: str
    path: str


class Auth(Struct, frozen=True):
    required: bool
    """Inference asks for a key."""
    admin_required: bool
    """/admin and /metrics do."""
    schemes: tuple[str, ...] = ("Authorization: Bearer KEY", "x-api-key: KEY")


class Limits(Struct, frozen=True):
    max_body_bytes: int
    request_seconds: float
    """How long one request may take; `x-request-timeout` says less."""
    max_connections: int


class Links(Struct, frozen=True):
    openapi: str = "/openapi.json"
    docs: str = "/docs"
    chat: str = "/"
    models: str = "/v1/models"
    discovery: str = "/v1/discovery"


class Health(Struct, frozen=True):
    live: str = "/healthz"
    ready: str = "/readyz"
    started: str = "/startupz"


class Known(Struct, frozen=True):
    id: str
    state: str
    context_length: int | None
    capabilities: Capabilities


class Discovery(Struct, frozen=True, kw_only=True):
    object: Literal["lmx.discovery"] = "lmx.discovery"
    name: Literal["lmx"] = "lmx"
    version: str
    base_url: str
    """The server's address, as the request had it."""
    apis: tuple[Api, ...]
    routes: tuple[Reach, ...]
    auth: Auth
    limits: Limits
    links: Links = Links()
    health: Health = Health()
    default_model: str | UnsetType | None = UNSET
    """Model of requests that name none; null = they are refused."""
    models: tuple[Known, ...] | UnsetType = UNSET
    """Absent where a key is needed to see them."""


async def read(request: web.Request) -> web.Response:
    """Tell the APIs, routes, models and limits of this server, and whether it asks for a key."""
    return json(await _discovery(request, shows_models=True))


async def well_known(request: web.Request) -> web.Response:
    """Tell the same without a key; the models are left out where one is needed to see them."""
    return json(await _discovery(request, shows_models=not request.app[GATEWAY].keys.guards(INFERENCE)))


async def _discovery(request: web.Request, *, shows_models: bool) -> Discovery:
    gateway = request.app[GATEWAY]
    origin = str(request.url.origin())
    routes = _routes(request.app)
    paths = {route.path for route in routes}
    return Discovery(
        version=__version__,
        base_url=origin,
        apis=tuple(Api(name, origin + base, base or "/") for name, base, needs in APIS if needs in paths),
        routes=routes,
        auth=_auth(gateway.keys),
        limits=_limits(gateway),
        default_model=gateway.default_model if shows_models else UNSET,
        models=await _models(request) if shows_models else UNSET,
    )


def _routes(app: web.Application) -> tuple[Reach, ...]:
    """Each path with its method; HEAD is taken where GET is."""
    found = {
        (route.resource.canonical, route.method)
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    return tuple(Reach(method, path) for path, method in sorted(found))


def _auth(keys: KeyRing) -> Auth:
    return Auth(keys.guards(INFERENCE), keys.guards(frozenset({Role.ADMIN})))


def _limits(gateway: Gateway) -> Limits:
    return Limits(gateway.max_body_bytes, gateway.request_seconds, gateway.max_connections)


async def _models(request: web.Request) -> tuple[Known, ...]:
    found = await models.known(request)
    return tuple(Known(model.id, model.state, model.context_length, model.capabilities) for model in found)
