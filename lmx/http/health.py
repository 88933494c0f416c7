"""GET /healthz, /livez, /readyz and /metrics"""

import prometheus_client
from aiohttp import web
from msgspec import Struct

from lmx.actors.messages.journal import Board
from lmx.http import board
from lmx.http.errors import RETRY_SECONDS
from lmx.http.respond import json


class Readiness(Struct, frozen=True):
    ready: bool
    reason: str
    models: dict[str, str]
    """State by name."""


async def live(_: web.Request) -> web.Response:
    """The loop turns. Depends on no actor and no model: a restart would help with neither."""
    return json({"ok": True})


async def ready(request: web.Request) -> web.Response:
    try:
        verdict = judge(await board.read(request))
    except TimeoutError:
        verdict = Readiness(False, "The journal does not answer.", {})
    answer = json(verdict, 200 if verdict.ready else 503)
    if not verdict.ready:
        answer.headers["Retry-After"] = str(RETRY_SECONDS)
    return answer


def judge(known: Board) -> Readiness:
    """Ready: the server serves, and at least one model has passed its canary."""
    views = board.by_actor(known)
    models = {
        actor.removeprefix(board.MODEL): view.state for actor, view in views.items() if actor.startswith(board.MODEL)
    }
    server = views[board.SERVER].state if board.SERVER in views else "unknown"
    if server != "serving":
        return Readiness(False, f"The server is {server}.", models)
    if "ready" not in models.values():
        return Readiness(False, "No model is ready.", models)
    return Readiness(True, "", models)


async def metrics(_: web.Request) -> web.Response:
    return web.Response(
        body=prometheus_client.generate_latest(), headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST}
    )
