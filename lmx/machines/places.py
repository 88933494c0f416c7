"""Where requests stood whose clients stopped waiting: sent again, they go on from there and not from the end."""

from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from lmx.machines.tasks import Task

KEPT_SECONDS = 60.0
"""As long as a Retry-After may be."""
REMEMBERED = 256
ENDS, FEW = 512, 16
"""Characters or bytes, and elements, at both ends of what is long: by them it is known."""


class Places:
    """By client, model and request. `now` is in seconds of any one clock."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, str, str], tuple[int, float]] = {}
        """Place, and when it was left; the latest come last."""

    def __len__(self) -> int:
        return len(self._places)

    def leave(self, client: str, model: str, asked: Task, place: int, now: float) -> None:
        """Keep a place; of several for the same request the first one."""
        key = (client, model, gist(asked))
        kept, _ = self._places.pop(key, (place, now))
        self._places[key] = (min(place, kept), now)
        while len(self._places) > REMEMBERED:
            del self._places[next(iter(self._places))]

    def take(self, client: str, model: str, asked: Task, now: float) -> int:
        """The place that was kept, once; 0 = none."""
        if not self._places:
            return 0
        place, left = self._places.pop((client, model, gist(asked)), (0, now))
        return place if now - left < KEPT_SECONDS else 0


def gist(asked: Task) -> str:
    """The same for the same request, within milliseconds for any: of what is long only its length and ends count.

    Two requests of one client that differ elsewhere may stand in each other's place, which hurts nobody else.
    """
    return blake2b(msgspec.msgpack.encode(_brief(asked)), digest_size=16).hexdigest()


def _brief(value: Any) -> Any:
    match value:
        case Struct():
            return type(value).__name__, *map(_brief, astuple(value))
        case dict():
            return _brief(tuple(value.items()))
        case str() | bytes() if len(value) > 2 * ENDS:
            return len(value), value[:ENDS], value[-ENDS:]
        case list() | tuple():
            ends = value if len(value) <= 2 * FEW else (len(value), *value[:FEW], *value[-FEW:])
            return tuple(map(_brief, ends))
    return value
