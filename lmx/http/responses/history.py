"""The conversation that a request goes on from, out of the store."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec import Struct

from lmx.http import bulk
from lmx.http.errors import ApiError, shown
from lmx.http.responses.items import Item, Output, Reference, settled
from lmx.http.responses.reply import Status
from lmx.http.responses.request import ResponseRequest
from lmx.http.responses.shelf import Shelf, ShelfError, Stored, silent


class Kept(Struct, frozen=True):
    """What is read of a stored response."""

    status: Status
    background: bool
    output: Sequence[Output]


_RESPONSE = msgspec.json.Decoder(Kept)
_INPUT = msgspec.json.Decoder(list[Item])


def kept(stored: Stored) -> Kept:
    return _RESPONSE.decode(stored.response)


def input_of(chain: Iterable[Stored]) -> list[Item]:
    """All that the last of them answers."""
    *earlier, last = chain
    items = [item for one in earlier for item in items_of(one)]
    return items + _INPUT.decode(last.input)


def items_of(stored: Stored) -> list[Item]:
    return _INPUT.decode(stored.input) + list(kept(stored).output)


async def before(asked: ResponseRequest, shelf: Shelf | None, owner: str, most: int) -> Sequence[Stored]:
    """The responses that it goes on from, the oldest first; an ApiError when one of them is not there.

    Also when they have more than `most` bytes: as much as could be sent at once.
    """
    id = asked.previous_response_id
    if id is None or shelf is None:
        return ()
    try:
        chain = await shelf.chain(owner, id)
    except ShelfError as error:
        raise silent(error) from error
    if not chain or chain[0].previous:
        raise _lost(chain[0].previous if chain else id)
    if (size := sum(stored.size for stored in chain)) > most:
        text = f"The conversation up to the response '{shown(id)}' has {size} bytes: at most {most} are read."
        raise ApiError(400, f"{text} Begin a new one.", "invalid_value", "previous_response_id")
    return chain


def earlier_items(asked: ResponseRequest, chain: Sequence[Stored]) -> list[Item]:
    """Of what `before` gave; an ApiError when nothing can go on from it."""
    bulk.check_count([part for stored in chain for part in (stored.input, stored.response)])
    status = kept(chain[-1]).status if chain else "completed"
    if status not in ("completed", "incomplete"):
        id = str(asked.previous_response_id)
        text = f"Previous response with id '{shown(id)}' is {status.replace('_', ' ')}: nothing can go on from it."
        raise ApiError(400, text, "invalid_value", "previous_response_id")
    return [item for one in chain for item in items_of(one)]


async def referred(asked: ResponseRequest, shelf: Shelf | None, owner: str) -> dict[int, Item]:
    """Which items of the request refer to which ones; an ApiError for a reference to what is not there."""
    return {
        index: await _resolved(item.id, f"input[{index}].id", shelf, owner)
        for index, item in enumerate(asked.given)
        if isinstance(item, Reference)
    }


def own(asked: ResponseRequest, referred: Mapping[int, Item]) -> list[Item]:
    """The request's own items, as they are stored."""
    return [referred[index] if isinstance(item, Reference) else settled(item) for index, item in enumerate(asked.given)]


def check_distinct(earlier: Iterable[Item], own: Iterable[Item]) -> None:
    """ApiError 400 for an item that is there already: it would be read twice, and no list could go on after it."""
    seen = {item.id for item in earlier}
    for item in own:
        if item.id in seen:
            text = f"Duplicate item found with id {shown(str(item.id))}. Remove duplicate items from your input and try"
            raise ApiError(400, f"{text} again.", None, "input")
        seen.add(item.id)


async def _resolved(id: str, place: str, shelf: Shelf | None, owner: str) -> Item:
    try:
        stored = await shelf.with_item(owner, id) if shelf is not None else None
    except ShelfError as error:
        raise silent(error) from error
    for item in await bulk.aside(stored.size, items_of, stored) if stored is not None else ():
        if item.id == id:
            return item
    raise ApiError(404, f"Item with id '{shown(id)}' not found.", None, place)


def _lost(id: str) -> ApiError:
    text = f"Previous response with id '{shown(id)}' not found."
    return ApiError(400, text, "previous_response_not_found", "previous_response_id")
