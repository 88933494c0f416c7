"""What a stored response answers, page by page."""

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from lmx.http.errors import ApiError, shown
from lmx.http.responses.items import Item
from lmx.http.responses.request import Include


class ItemQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """What the URL may ask for."""

    include: list[Include] = []
    """Without effect: all of each item is told."""
    order: Literal["asc", "desc"] = "desc"
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    after: str = ""
    """The id of the item that the last page ended with."""


class Items(Struct, frozen=True):
    data: Sequence[Item]
    first_id: str
    last_id: str
    has_more: bool
    object: Literal["list"] = "list"


def page(items: Sequence[Item], query: ItemQuery) -> Items:
    """Raises ApiError where `after` is none of them."""
    ordered = list(items) if query.order == "asc" else list(reversed(items))
    start = 0
    if query.after:
        ids = [item.id for item in ordered]
        if query.after not in ids:
            raise ApiError(400, f"Item with id '{shown(query.after)}' not found.", "invalid_value", "after")
        start = ids.index(query.after) + 1
    data = ordered[start : start + query.limit]
    first, last = (str(data[0].id), str(data[-1].id)) if data else ("", "")
    return Items(data, first, last, start + query.limit < len(ordered))
