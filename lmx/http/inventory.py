"""Every model for admins: what was agreed on when it was loaded, and how it does now. From what the journal knows."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec
from msgspec import Struct

from lmx.actors.messages.journal import Fact, MachineView
from lmx.http.board import MODEL, why

T = TypeVar("T", bound=Struct)


class Agreed(Struct, frozen=True, kw_only=True):
    """Of the latest load; null for what no load has told yet."""

    backend: str | None = None
    version: str | None = None
    context: int | None = None
    slots: int | None = None
    kv_type: str | None = None
    kv_layout: str | None = None
    """As the settings have it."""
    prefix: str | None = None
    speculation: str | None = None
    """`lookup`, `draft`, or `off: ` and why."""
    makes: str | None = None
    """Of text, embeddings, scores."""
    adapters: str | None = None
    """Names and scales; those of the next load, when one is under way."""


class Memory(Struct, frozen=True, kw_only=True):
    """Bytes of the worker by kind; null while there is none."""

    memory_bytes: int | None = None
    device_bytes: int | None = None
    weights_bytes: int | None = None
    kv_bytes: int | None = None
    prefix_cache_bytes: int | None = None
    transient_bytes: int | None = None
    disk_cache_bytes: int | None = None


class Doing(Struct, frozen=True, kw_only=True):
    """The latest telemetry. Shares are from 0 to 1 since the worker's start; null: nothing to tell a share of."""

    in_flight: int | None = None
    kv_used: int | None = None
    prefix_cache_entries: int | None = None
    cache_hit_share: float | None = None
    acceptance: float | None = None
    speculating: bool | None = None
    chunk: int | None = None


class AdminModel(Struct, frozen=True, kw_only=True):
    id: str
    state: str
    since: float | None = None
    """Unix time."""
    reason: str = ""
    agreed: Agreed = Agreed()
    memory: Memory = Memory()
    doing: Doing = Doing()
    facts: dict[str, Fact] = {}
    """Whatever else the model's actor notes: its process, restarts, the latest exit."""


class AdminModels(Struct, frozen=True):
    models: tuple[AdminModel, ...]


GROUPED = frozenset({*Agreed.__struct_fields__, *Memory.__struct_fields__, *Doing.__struct_fields__})


def of(names: Iterable[str], views: Mapping[str, MachineView]) -> AdminModels:
    """`views` by actor."""
    return AdminModels(tuple(_model(name, views.get(MODEL + name)) for name in names))


def _model(name: str, view: MachineView | None) -> AdminModel:
    if view is None:
        return AdminModel(id=name, state="unknown")
    return AdminModel(
        id=name,
        state=view.state,
        since=view.since,
        reason=why(view),
        agreed=_picked(view, Agreed),
        memory=_picked(view, Memory),
        doing=_picked(view, Doing),
        facts={key: fact for key, fact in view.facts.items() if key not in GROUPED},
    )


def _picked(view: MachineView, kind: type[T]) -> T:
    return msgspec.convert(view.facts, kind)
