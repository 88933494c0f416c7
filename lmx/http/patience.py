"""How long a client may leave unread what is written to it."""

import asyncio
from collections.abc import Callable
from math import inf

SLOWEST = 1024
"""Bytes a second that count as reading."""


class Patience:
    """Looks, while a connection's buffer is full, whether its client still reads; one that does not is cut."""

    def __init__(self, seconds: float, cut: Callable[[str], None]) -> None:
        self._seconds = seconds
        self._cut = cut
        self._timer: asyncio.Handle | None = None
        self._unread = inf

    def begin(self, transport: asyncio.Transport) -> None:
        """In the middle of a write: how much there is to read is known when that is over."""
        self.end()
        self._unread = inf
        self._timer = asyncio.get_running_loop().call_soon(self._look, transport)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, transport: asyncio.Transport) -> None:
        left = transport.get_write_buffer_size()
        if self._unread - left < SLOWEST * self._seconds:
            self._timer = None
            self._cut(f"It read next to nothing for {self._seconds:g} s; {left} bytes were left.")
            return
        self._unread = left
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._look, transport)
