"""The memory ledger's arithmetic: what a load needs, whether it fits, who has to go first, and whom to start afresh."""

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

GB = 1e9
LEAST, MOST = 0.5, 4.0
"""How far a measurement may correct an estimate: memory that is taken late was not seen yet, and leaks are no need."""
STUCK_REFUSALS, STUCK_SECONDS = 5, 60.0
"""So many refusals over so long, and no load between them: by itself it does not get better."""
BLOATED = 1.5
"""A worker that takes so many times what was reserved for it."""

Use = Literal["loading", "busy", "pinned", "idle"]


class Line(Struct, frozen=True, kw_only=True):
    """What one model holds, in bytes of its whole process."""

    reserved: int
    peak: int = 0
    """The most that was measured; 0 = nothing was yet."""
    now: int = 0
    use: Use = "loading"

    @property
    def held(self) -> int:
        """The reservation, until there is a measurement."""
        return max(self.peak, int(self.reserved * LEAST)) if self.peak else self.reserved

    @property
    def promised(self) -> int:
        """Held but not taken: it still counts as free on the machine."""
        return max(0, self.held - self.now) if self.peak else 0


class Fits(Struct, frozen=True):
    pass


class Evict(Struct, frozen=True):
    """Unloading these models makes room."""

    models: tuple[str, ...]


class TooBig(Struct, frozen=True):
    """Does not fit even when everything that may go is gone."""

    free_bytes: int
    need_bytes: int
    budget_bytes: int


Plan = Fits | Evict | TooBig


def plan(*, need: int, free: int, budget: int, held: Mapping[str, int], idle_first: Sequence[str]) -> Plan:
    """Decide a load of `need` bytes.

    `free` is what the machine could give now, less what is promised already; `budget` the share of its memory that lmx
    may use; `held` what each loaded model holds; `idle_first` the models that may be evicted, longest unused first.
    Nobody is evicted in vain: neither when it is not enough, nor when the others are enough. All in bytes.
    """
    room = min(free, budget - sum(held.values()))
    if need <= room:
        return Fits()
    chosen: list[str] = []
    for model in idle_first:
        chosen.append(model)
        room += held[model]
        if need <= min(room, budget):
            return Evict(_needed(chosen, min(room, budget) - need, held))
    return TooBig(free_bytes=max(0, room), need_bytes=need, budget_bytes=budget)


def _needed(chosen: Sequence[str], spare: int, held: Mapping[str, int]) -> tuple[str, ...]:
    """Without those that can stay within `spare` bytes, the latest used first."""
    stays: set[str] = set()
    for model in reversed(chosen):
        if held[model] <= spare:
            spare -= held[model]
            stays.add(model)
    return tuple(model for model in chosen if model not in stays)


def figures(too_big: TooBig, lines: Mapping[str, Line]) -> str:
    """Why a load was refused, for people: two sentences."""
    text = (
        f"It needs {_gb(too_big.need_bytes)}; {_gb(too_big.free_bytes)} could be free"
        f" of the {_gb(too_big.budget_bytes)} that lmx may use"
    )
    holders = ", ".join(f"{name} {_gb(line.held)} ({line.use})" for name, line in lines.items())
    return f"{text}; held: {holders}." if holders else f"{text}."


def correction(*, measured: int, estimated: int) -> float:
    """What the next estimate of the same model is to be multiplied with."""
    return min(MOST, max(LEAST, measured / estimated)) if measured and estimated else 1.0


def cure(*, refusals: int, seconds: float, lines: Mapping[str, Line]) -> str | None:
    """The model to start afresh when loads are refused for lack of memory, and that for `seconds` already.

    The worker that grew most beyond its reservation, or else the idle one that holds most; None = it is not time yet,
    or nobody would give anything back.
    """
    if refusals < STUCK_REFUSALS or seconds < STUCK_SECONDS:
        return None
    bloated = {name: line.now - line.reserved for name, line in lines.items() if line.now > BLOATED * line.reserved}
    idle = {name: line.held for name, line in lines.items() if line.use == "idle"}
    candidates = bloated or idle
    return max(candidates, key=lambda name: candidates[name]) if candidates else None


def has_room(*, tokens: int, bytes_per_token: int, free: int) -> bool:
    """Whether a sequence of so many tokens can have its KV cache, where that is taken token by token."""
    return tokens * bytes_per_token <= free


def _gb(size: int) -> str:
    return f"{size / GB:.1f} GB"
