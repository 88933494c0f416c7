"""The memory ledger's arithmetic: what a load needs, whether it fits, and who has to go first."""

from collections.abc import Mapping, Sequence

from msgspec import Struct


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

    `free` is what the machine could give now, `budget` the share of its memory that lmx may use, `held` what each
    loaded model was granted, `idle_first` the models that may be evicted, longest unused first. All in bytes.
    """
    room = min(free, budget - sum(held.values()))
    if need <= room:
        return Fits()
    chosen: list[str] = []
    for model in idle_first:
        chosen.append(model)
        room += held[model]
        if need <= min(room, budget):
            return Evict(tuple(chosen))
    return TooBig(free_bytes=max(0, room), need_bytes=need, budget_bytes=budget)
