"""Whether a client would be answered: a model has answered with a real token lately, or proves now that it can."""

import asyncio
import time
from collections.abc import Iterator, Mapping

from aiohttp import web
from msgspec import Struct

from lmx.actors.messages.journal import Board, MachineView
from lmx.http import board
from lmx.http.gateway import GATEWAY

FRESH_SECONDS = 60.0
"""For so long an answer counts as a proof."""
SILENT_SECONDS = 10.0
"""A model that was asked for a proof so long ago and gave none does not answer."""
PAUSE_SECONDS = 0.1
"""Between two looks for the proof."""
SKEW_SECONDS = 5.0
"""An answer may lie so far in the future; one further ahead is of a clock that was set back."""

REFUSING = ("shedding", "closing")
"""Rungs of the memory's ladder on which no new request is taken."""
WORSE = ("state_recovered", "state_error", "journal_error", "degraded")
"""Facts that an actor notes of itself while it does worse than it should: sentences."""


class Readiness(Struct, frozen=True):
    ready: bool
    reason: str
    models: dict[str, str]
    """State by name."""
    degraded: tuple[str, ...] = ()
    """What is not as it should be though requests are answered; sentences."""


class Proofs:
    """Since when each silent model owes a proof; times of the event loop, in seconds."""

    def __init__(self) -> None:
        self._owed: dict[str, float] = {}

    def owe(self, silent: frozenset[str], now: float) -> frozenset[str]:
        """These are silent, all others are not; returns those that were asked for too long."""
        self._owed = {name: self._owed.get(name, now) for name in silent}
        return frozenset(name for name, since in self._owed.items() if now - since >= SILENT_SECONDS)


PROOFS = web.AppKey("proofs", Proofs)


async def find(request: web.Request) -> Readiness:
    """Ask silent models for a proof and give them a moment for it. Raises TimeoutError when the journal is silent."""
    gateway, loop = request.app[GATEWAY], asyncio.get_running_loop()
    known = await board.read(request)
    silent = silent_models(known, time.time())
    for name in silent:
        gateway.prove(name)
    deadline = loop.time() + gateway.proof_seconds
    while silent and silent == serving(known).keys() and loop.time() < deadline:
        await asyncio.sleep(PAUSE_SECONDS)
        known = await board.read(request)
        silent = silent_models(known, time.time())
    return judge(known, time.time(), request.app[PROOFS].owe(silent, loop.time()))


def judge(known: Board, now: float, dumb: frozenset[str] = frozenset()) -> Readiness:
    """`now` is unix time, `dumb` the models that owe a proof for too long."""
    views = board.by_actor(known)
    models = {
        actor.removeprefix(board.MODEL): view.state for actor, view in views.items() if actor.startswith(board.MODEL)
    }
    server = views[board.SERVER].state if board.SERVER in views else "unknown"
    worse = tuple(_worse(known))
    ready = serving(known)
    silences = {name: max(0.0, now - answered_at(ready[name], now)) for name in dumb}
    complaints = tuple(f"Model {name} has not answered for {seconds:.0f} s." for name, seconds in silences.items())
    if server != "serving":
        return Readiness(False, f"The server is {server}.", models, worse)
    if not ready:
        return Readiness(False, "No model is ready.", models, worse)
    if dumb >= ready.keys():
        return Readiness(False, " ".join(complaints), models, worse)
    if (rung := views[board.MEMORY].state if board.MEMORY in views else "") in REFUSING:
        return Readiness(False, f"Memory is short: {rung}. No new requests are taken.", models, worse)
    return Readiness(True, "", models, (*worse, *complaints))


def serving(known: Board) -> Mapping[str, MachineView]:
    """The models that are ready."""
    return {
        view.actor.removeprefix(board.MODEL): view
        for view in known.machines
        if view.actor.startswith(board.MODEL) and view.state == "ready"
    }


def silent_models(known: Board, now: float) -> frozenset[str]:
    """Those that are ready, but have not answered for a while."""

    def lately(at: float) -> bool:
        return now - FRESH_SECONDS <= at <= now + SKEW_SECONDS

    return frozenset(name for name, view in serving(known).items() if not lately(answered_at(view, now)))


def answered_at(view: MachineView, now: float) -> float:
    """Unix time of a ready model's latest real token; the canary sang before it became ready.

    What is of a clock that was set back since counts only when there is nothing else.
    """
    told = view.facts.get("answered_at")
    times = [view.since, float(told)] if isinstance(told, int | float) else [view.since]
    return max((at for at in times if at <= now + SKEW_SECONDS), default=max(times))


def _worse(known: Board) -> Iterator[str]:
    for view in known.machines:
        if view.actor == board.MEMORY and view.state != "nominal":
            yield f"Memory is short: {view.state}."
        if view.state == "safe_mode":
            yield "Safe mode: no model is loaded by itself."
        yield from (f"{view.actor}: {view.facts[fact]}" for fact in WORSE if view.facts.get(fact))
