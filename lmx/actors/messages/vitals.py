"""Told to whoever looks at the machine: its memory, its disk, how warm it is."""

from typing import Literal

from msgspec import Struct

from lmx.actors.messages.ref import Ref

Heat = Literal["normal", "hot", "unknown"]


class Vitals(Struct, frozen=True, kw_only=True):
    """What a look at the machine and at this process shows; None: it does not tell."""

    memory_total: int
    memory_available: int
    """Bytes that could be had without swapping."""
    process_bytes: int
    """Of the main process, resident."""
    disk_free: int | None = None
    """Bytes, where the state is kept."""
    state_writable: bool = True
    heat: Heat = "unknown"
    heat_detail: str = ""
    files_open: int | None = None
    files_limit: int
    lags: dict[str, float] = {}
    """Seconds that the event loop and each actor took, or has been taking, for the watchdog's latest question."""


class Look(Struct, frozen=True):
    reply_to: Ref[Vitals]


Message = Look
