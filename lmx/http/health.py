"""GET /healthz, /livez, /startupz, /readyz, /admin/health and /metrics: three questions that are kept apart.

Alive: the loop turns. Ready: a model answers. Healthy: nothing is wrong anywhere.
"""

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

import prometheus_client
from aiohttp import web
from msgspec import Struct

from lmx.actors.messages.vitals import Look
from lmx.http import board, checks, readiness
from lmx.http.errors import RETRY_SECONDS
from lmx.http.gateway import GATEWAY
from lmx.http.mailbox import ask
from lmx.http.readiness import Readiness
from lmx.http.respond import json

R = TypeVar("R")

QUEUED = "lmx_queued_requests"
SILENT_JOURNAL = Readiness(False, "The journal does not answer.", {})


class Alive(Struct, frozen=True):
    ok: bool = True


class Started(Struct, frozen=True):
    started: bool
    reason: str = ""


async def live(_: web.Request) -> web.Response:
    """Tell that the loop turns. Depends on no actor and no model: a restart would help with neither."""
    return json(Alive())


async def started(request: web.Request) -> web.Response:
    """Tell whether the start is over: from now on /livez and /readyz tell more."""
    try:
        views = board.by_actor(await board.read(request))
    except TimeoutError:
        return _or_503(False, Started(False, SILENT_JOURNAL.reason))
    state = views[board.SERVER].state if board.SERVER in views else "unknown"
    over = state not in ("unknown", "starting", "recovering")
    return _or_503(over, Started(over, "" if over else f"The server is {state}."))


async def ready(request: web.Request) -> web.Response:
    """Tell whether requests are answered.

    200: a model has answered with a real token lately, or does so now; 503 says which has not, and for how long.
    """
    try:
        verdict = await readiness.find(request)
    except TimeoutError:
        verdict = SILENT_JOURNAL
    return _or_503(verdict.ready, verdict)


async def deep(request: web.Request) -> web.Response:
    """Tell how every part does, with what is known of it; 503 when one of them is critical."""
    gateway = request.app[GATEWAY]
    known, vitals = await asyncio.gather(
        in_time(board.read(request)), in_time(ask(gateway.physician, Look, gateway.look_seconds))
    )
    health = checks.examine(known, vitals, time.time(), queued())
    return json(health, 503 if health.status == "critical" else 200)


async def metrics(_: web.Request) -> web.Response:
    """Figures for Prometheus."""
    return web.Response(
        body=prometheus_client.generate_latest(), headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST}
    )


def queued() -> dict[str, int]:
    """Requests that wait in admission, by model."""
    waiting: dict[str, int] = {}
    for metric in prometheus_client.REGISTRY.restricted_registry([QUEUED]).collect():
        for sample in metric.samples:
            name = sample.labels["model"]
            waiting[name] = waiting.get(name, 0) + int(sample.value)
    return waiting


async def in_time(answer: Awaitable[R]) -> R | None:
    """None when it did not come in time."""
    try:
        return await answer
    except TimeoutError:
        return None


def _or_503(good: bool, body: object) -> web.Response:
    answer = json(body, 200 if good else 503)
    if not good:
        answer.headers["Retry-After"] = str(RETRY_SECONDS)
    return answer
