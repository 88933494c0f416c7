"""What lasts from one start of the daemon to the next, and what becomes of it with each thing that happens. Pure."""

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from lmx.machines.canary import Golden

STARTS = 16
"""Unclean starts that are remembered."""
GOLDENS = 64


class Quarantine(Struct, frozen=True):
    """Why a model is not served, since when (unix time), and for which key: another one ends it."""

    reason: str
    since: float
    key: str


class RuntimeState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it. Times are unix times."""

    schema: Literal[1] = 1
    generation: int = 0
    """How often it was written."""
    pid: int = 0
    """Of the daemon that wrote it."""
    starts: tuple[float, ...] = ()
    """Since the last clean stop, oldest first; empty = the last stop was clean."""
    stopped: float | None = None
    """The last clean stop."""
    loaded: tuple[str, ...] = ()
    """Models that are ready, or were when the daemon died, in the order of their loads."""
    latest: str = ""
    """The model whose load began last and that was not unloaded since."""
    quarantine: dict[str, Quarantine] = {}
    """By model."""
    goldens: dict[str, Golden] = {}
    """By key, oldest first."""


def started(state: RuntimeState, at: float) -> RuntimeState:
    return replace(state, starts=(*state.starts, at)[-STARTS:])


def stopped(state: RuntimeState, at: float) -> RuntimeState:
    """Cleanly: nothing is to be restored, and no start counts any more."""
    return replace(state, starts=(), stopped=at, loaded=(), latest="")


def loading(state: RuntimeState, model: str) -> RuntimeState:
    return replace(state, latest=model)


def loaded(state: RuntimeState, model: str) -> RuntimeState:
    """One that comes back keeps its place."""
    return state if model in state.loaded else replace(state, loaded=(*state.loaded, model))


def unloaded(state: RuntimeState, model: str) -> RuntimeState:
    rest = tuple(name for name in state.loaded if name != model)
    latest = (rest[-1] if rest else "") if state.latest == model else state.latest
    return replace(state, loaded=rest, latest=latest)


def quarantined(state: RuntimeState, model: str, quarantine: Quarantine) -> RuntimeState:
    return replace(state, quarantine=state.quarantine | {model: quarantine})


def released(state: RuntimeState, model: str) -> RuntimeState:
    return replace(state, quarantine={name: why for name, why in state.quarantine.items() if name != model})


def sang(state: RuntimeState, key: str, golden: Golden) -> RuntimeState:
    """The newest ones are kept."""
    rest = {known: answers for known, answers in state.goldens.items() if known != key}
    return replace(state, goldens=dict([*rest.items(), (key, golden)][-GOLDENS:]))
