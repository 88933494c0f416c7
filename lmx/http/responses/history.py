"""The conversation that a request goes on from, out of the store."""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

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


async def before(asked: ResponseRequest, shelf: Shelf | None, owner: str) -> list[Item]:
    """The items of the responses that it goes on from; an ApiError when one of them is not there."""
    id = asked.previous_response_id
    if id is None or shelf is None:
        return []
    try:
        chain = await shelf.chain(owner, id)
    except ShelfError as error:
        raise silent(error) from error
    if not chain or chain[0].previous:
        raise _lost(chain[0].previous if chain else id)
    status = kept(chain[-1]).status
    if status not in ("completed", "incomplete"):
        text = f"Previous response with id '{shown(id)}' is {status.replace('_', ' ')}: nothing can go on from it."
        raise ApiError(400, text, "invalid_value", "previous_response_id")
    return [item for one in chain for item in items_of(one)]


async def own(asked: ResponseRequest, shelf: Shelf | None, owner: str) -> list[Item]:
    """The request's own items, as they are stored; an ApiError for a reference to what is not there."""
    items: list[Item] = []
    for index, item in enumerate(asked.given):
        if isinstance(item, Reference):
            items.append(await _resolved(item.id, f"input[{index}].id", shelf, owner))
        else:
            items.append(settled(item))
    return items


async def _resolved(id: str, place: str, shelf: Shelf | None, owner: str) -> Item:
    try:
        stored = await shelf.with_item(owner, id) if shelf is not None else None
    except ShelfError as error:
        raise silent(error) from error
    for item in items_of(stored) if stored is not None else ():
        if item.id == id:
            return item
    raise ApiError(404, f"Item with id '{shown(id)}' not found.", None, place)


def _lost(id: str) -> ApiError:
    text = f"Previous response with id '{shown(id)}' not found."
    return ApiError(400, text, "previous_response_not_found", "previous_response_id")
