"""Told to any actor: its base answers, whatever it is."""

from collections.abc import Callable

from msgspec import Struct


class Ping(Struct, frozen=True):
    """Call this in your thread, when its turn has come. It must neither raise nor block."""

    answered: Callable[[], None]
