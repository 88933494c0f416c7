"""Where responses are kept, as the routes see it. lmx/responses_store.py is one."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol

from aiohttp import web
from msgspec import Struct

from lmx.http.errors import ApiError
from lmx.http.keys import sent


class Stored(Struct, frozen=True, kw_only=True):
    id: str
    owner: str
    """Whose it is: nobody else can see it."""
    previous: str = ""
    """The response that it goes on from."""
    response: bytes
    """JSON."""
    input: bytes
    """JSON: the list of the request's own items."""
    items: tuple[str, ...] = ()
    """Ids of all items in both."""

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.response) + len(self.input)


class ShelfError(Exception):
    """It cannot be read, or does not answer in time."""


class Shelf(Protocol):
    """Questions are answered in the order in which they and `keep` are called; an answer may be a ShelfError."""

    def keep(self, stored: Stored) -> None:
        """Also in place of an earlier one with the same id. Returns at once; what cannot be kept is logged."""
        ...

    async def find(self, owner: str, id: str) -> Stored | None: ...

    async def chain(self, owner: str, id: str) -> Sequence[Stored]:
        """It and what it goes on from, the oldest first; () = there is none. They count as used now."""
        ...

    async def with_item(self, owner: str, item: str) -> Stored | None:
        """The latest response with an item of this id."""
        ...

    async def drop(self, owner: str, id: str) -> bool:
        """False: there was none."""
        ...


def owner_of(request: web.Request) -> str:
    """Whoever has the same API key, and without keys everybody. A key is kept as a digest: it is nobody's business."""
    secret = sent(request)
    return blake2b(secret.encode(errors="surrogateescape"), digest_size=16).hexdigest() if secret else ""


def silent(error: ShelfError) -> ApiError:
    return ApiError(503, f"The stored responses cannot be read now: {error}", "store_unavailable")
