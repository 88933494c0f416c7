"""Large requests are read on other threads, so that nobody else's stream waits for them.

What C does in one go holds the interpreter on any thread: it is bounded, or done in pieces.
"""

import asyncio
import base64
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ParamSpec, TypeVar

import msgspec

from lmx.http.errors import ApiError

P = ParamSpec("P")
R = TypeVar("R")

LARGE = 256 * 1024
"""Bytes that the event loop can read by itself."""
PIECE = 1024 * 1024
"""Bytes that are looked at in one go."""
VALUES = 1_000_000
"""Of one request, at most: as many are decoded in about a tenth of a second."""
NESTED = 100_000
"""Objects and arrays among them, at most: the collector of garbage visits them all in one go."""


async def aside(size: int, work: Callable[P, R], *args: P.args, **named: P.kwargs) -> R:
    """What `work` returns or raises; for `size` bytes that are many, on another thread."""
    if size < LARGE:
        return work(*args, **named)
    return await asyncio.to_thread(work, *args, **named)


def decoded(body: bytes) -> Any:
    """Of JSON; msgspec's errors. ApiError 400 for more values than one body may have."""
    check_count([body])
    return msgspec.json.decode(body)


def of_base64(text: str) -> bytes:
    """Raises ValueError."""
    starts = range(0, len(text), PIECE)
    pieces = [text[start : start + PIECE] for start in starts]
    if any(piece.endswith("=") for piece in pieces[:-1]):
        raise ValueError("it goes on behind its end")
    return b"".join(base64.b64decode(piece, validate=True) for piece in pieces)


def check_count(bodies: Sequence[bytes]) -> None:
    """ApiError 400 for more values than one request may have, in these pieces of JSON together.

    Marks within strings are told from others only where there are many: that takes longer.
    """
    if sum(map(len, bodies)) < LARGE or _within(*_sum(_marks(body, 0, len(body)) for body in bodies)):
        return
    values = nested = 0
    for body in bodies:
        for start, end in _outside(body):
            values, nested = _sum([(values, nested), _marks(body, start, end)])
            if not _within(values, nested):
                text = (
                    f"Too many values in one request: at most {VALUES} are read, of them {NESTED} objects and arrays."
                )
                raise ApiError(400, text, "too_many_values")


def _sum(pairs: Iterable[tuple[int, int]]) -> tuple[int, int]:
    values = nested = 0
    for more, deeper in pairs:
        values, nested = values + more, nested + deeper
    return values, nested


def _within(values: int, nested: int) -> bool:
    return values <= VALUES and nested <= NESTED


def _marks(body: bytes, start: int, end: int) -> tuple[int, int]:
    """How many values, and objects and arrays among them, begin there."""
    commas = nested = 0
    for at in range(start, end, PIECE):
        until = min(at + PIECE, end)
        commas += body.count(b",", at, until)
        nested += body.count(b"{", at, until) + body.count(b"[", at, until)
    return commas + nested, nested


def _outside(body: bytes) -> Iterator[tuple[int, int]]:
    """From where to where there are no strings; up to the first that does not end."""
    start = 0
    while (quote := body.find(b'"', start)) >= 0:
        yield start, quote
        quote = body.find(b'"', quote + 1)
        while quote >= 0 and _escaped(body, quote):
            quote = body.find(b'"', quote + 1)
        if quote < 0:
            return
        start = quote + 1
    yield start, len(body)


def _escaped(body: bytes, quote: int) -> bool:
    """An odd number of backslashes stands before it."""
    at = quote
    while body[at - 1] == ord("\\"):
        at -= 1
    return (quote - at) % 2 == 1
