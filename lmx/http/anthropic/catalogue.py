"""GET /v1/models as Anthropic's clients read it. Its fields stand beside OpenAI's, so that both kinds can."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

from aiohttp import web
from msgspec import Struct

from lmx.http.anthropic.envelope import VERSION
from lmx.http.anthropic.faults import at
from lmx.http.errors import shown
from lmx.http.replies import Model

USUAL = 20
MOST = 1000
"""Models of one page."""


class ModelInfo(Struct, frozen=True, kw_only=True):
    type: Literal["model"] = "model"
    id: str
    display_name: str
    created_at: str
    """RFC 3339."""
    lifecycle: Literal["active"] = "active"
    max_input_tokens: int | None
    max_tokens: int | None
    capabilities: None = None
    """Anthropic's are of its own features; lmx's are in OpenAI's shape."""
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class Page(Struct, frozen=True):
    data: tuple[ModelInfo, ...]
    has_more: bool
    first_id: str | None
    last_id: str | None
    object: Literal["list"] = "list"


def asks(request: web.Request) -> bool:
    """Whether it is one of Anthropic's clients."""
    return VERSION in request.headers


def page(models: Sequence[Model], query: Mapping[str, str]) -> Page:
    """The models after, or before, the one that the query names. Raises ApiError."""
    limit = _limit(query.get("limit"))
    ids = [model.id for model in models]
    before = _place(ids, query, "before_id", len(ids))
    after = _place(ids, query, "after_id", -1) + 1
    backwards = "before_id" in query and "after_id" not in query
    start = max(after, before - limit) if backwards else after
    shown = models[start : min(start + limit, before)]
    more = start > after if backwards else start + limit < before
    return Page(tuple(map(info, shown)), more, shown[0].id if shown else None, shown[-1].id if shown else None)


def info(model: Model) -> ModelInfo:
    return ModelInfo(
        id=model.id,
        display_name=model.id,
        created_at=datetime.fromtimestamp(model.created, UTC).isoformat().replace("+00:00", "Z"),
        max_input_tokens=model.context_length,
        max_tokens=model.context_length,
        created=model.created,
        owned_by=model.owned_by,
    )


def _limit(given: str | None) -> int:
    if given is None:
        return USUAL
    if not given.isdecimal() or not given.isascii():
        raise at("limit", "Input should be a valid integer", "invalid_type")
    if not 1 <= int(given[:6]) <= MOST:
        raise at("limit", f"Input should be greater than or equal to 1 and less than or equal to {MOST}")
    return int(given)


def _place(ids: Sequence[str], query: Mapping[str, str], name: str, absent: int) -> int:
    if name not in query:
        return absent
    if query[name] not in ids:
        raise at(name, f"there is no model '{shown(query[name])}'")
    return ids.index(query[name])
