"""How long an idle model stays in memory, and when its worker is worth starting afresh."""

from msgspec import Struct

GROWTH, SLACK = 1.5, 200_000_000
"""A worker drifts when it takes so many times what it took after its first minute, and so many bytes more."""
FIRST_SECONDS = 60.0
HANDLES, THREADS = 64, 32
"""More of them than after the first minute are a leak."""


class Footprint(Struct, frozen=True):
    """What an idle worker costs."""

    nbytes: int
    """Of the process, less the KV cache and known prompts: those may grow."""
    handles: int = 0
    """Open files; 0 = the platform does not tell."""
    threads: int = 0


def stays(*, configured: float, asked: float | None, pinned: bool) -> float | None:
    """Seconds that an idle model stays; None = for ever.

    `configured` is 0 for ever; `asked` is the latest request's own wish: below 0 for ever, 0 not at all, None = none.
    """
    if pinned:
        return None
    if asked is not None:
        return asked if asked >= 0 else None
    return configured or None


def drift(*, first: Footprint, now: Footprint) -> str:
    """Why an idle worker is to be started afresh, as a sentence; empty = it is as it was after its first minute."""
    if now.nbytes > first.nbytes * GROWTH + SLACK:
        return f"Its process grew from {first.nbytes / 1e9:.2f} GB to {now.nbytes / 1e9:.2f} GB while it did nothing."
    if now.handles > first.handles + HANDLES:
        return f"Its open files grew from {first.handles} to {now.handles}."
    if now.threads > first.threads + THREADS:
        return f"Its threads grew from {first.threads} to {now.threads}."
    return ""
