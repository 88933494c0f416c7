"""GET /admin/journal: what happened, from the file."""

from typing import Annotated

from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType

from lmx.http import errands
from lmx.http.errors import ApiError, shown
from lmx.http.gateway import GATEWAY
from lmx.http.respond import json

USUAL, MOST = 100, 1000
"""Entries of one answer."""
DIGITS = 19
"""Of the largest cursor."""


class Query(Struct, frozen=True):
    since: Annotated[int, Meta(ge=0, le=2**63 - 1)] | UnsetType = UNSET
    """A cursor; without it, the latest entries."""
    actor: str | UnsetType = UNSET
    """Whose entries; without it, everybody's."""
    limit: Annotated[int, Meta(ge=0, le=MOST)] | UnsetType = UNSET
    """Entries at most; 0 is the same as none given."""


async def read(request: web.Request) -> web.Response:
    """Tell what happened. The newest entry is the last; `cursor` is the next request's `since`."""
    look = request.app[GATEWAY].read_journal
    if look is None:
        raise ApiError(404, "The journal is switched off (journal.enabled).", "journal_disabled")
    since = _number(request, "since", None, 2**63 - 1)
    limit = _number(request, "limit", USUAL, MOST) or USUAL
    try:
        page = await errands.run(look, since, request.query.get("actor", ""), limit)
    except OSError as error:
        raise ApiError(503, str(error), "journal_unreadable") from error
    return json(page)


def _number(request: web.Request, name: str, usual: int | None, most: int) -> int | None:
    text = request.query.get(name)
    if text is None:
        return usual
    if not text.isascii() or not text.isdigit() or len(text) > DIGITS or int(text) > most:
        raise ApiError(400, f"Invalid '{name}': '{shown(text)}'. Expected 0 to {most}.", "invalid_value", name)
    return int(text)
