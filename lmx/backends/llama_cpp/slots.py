"""The slots of the KV cache: who is in them, and what ended sequences left there for others to begin with.

A slot is empty, active (a sequence runs in it), warm (an ended sequence's tokens are still in it, and a KvHandle points
to them) or poisoned (non-finite numbers are in it). Warm slots are given out like empty ones; their content moves to
host memory first, behind the same handle.
"""

from lmx.backends.base import EngineFatal, Reuse
from lmx.backends.llama_cpp.context import Context, State

PATIENCE = 4
"""Steps that a gap between running slots may last before it is closed."""


class KvHandle:
    """Computed tokens of a sequence: in `slot`, or as `state` in host memory; in neither once they are given away.

    `tokens` is 0 when they were lost.
    """

    def __init__(self, tokens: int, *, slot: int | None = None, state: State | None = None) -> None:
        self.tokens = tokens
        self.slot = slot
        self.state = state

    @property
    def nbytes(self) -> int:
        return 0 if self.state is None else self.state.nbytes

    def move(self, state: State | None) -> None:
        """Out of its slot; what could not be saved is lost."""
        self.slot, self.state = None, state
        self.tokens = self.tokens if state is not None else 0


class Slots:
    def __init__(self, context: Context) -> None:
        self._context = context
        self.active: set[int] = set()
        self._warm: dict[int, KvHandle] = {}
        """The longest unused first."""
        self._poisoned: set[int] = set()
        self._gaps = 0

    @property
    def free(self) -> int:
        """How many sequences could be taken now."""
        return self._context.slots - len(self.active) - len(self._poisoned)

    def take(self, reuse: Reuse | None) -> tuple[int, int]:
        """A slot for a new sequence, and how many of its tokens are in it already."""
        handle = reuse.handle if reuse else None
        source = handle if isinstance(handle, KvHandle) else None
        if source and source.slot is not None and reuse and reuse.whole:
            slot = source.slot
        else:
            slot = self._choose(source)
            self._vacate(slot)
        known = self._fill(slot, source, reuse.tokens) if source and reuse else 0
        if source and reuse and reuse.whole:
            self.drop(source, keep=slot)
        if not known:
            self._context.forget(slot)
        self.active.add(slot)
        return slot, known

    def end(self, slot: int) -> None:
        """The sequence in `slot` is gone, and what it computed with it."""
        self.active.discard(slot)
        self._context.forget(slot)
        self._clean()

    def keep(self, slot: int, tokens: int) -> KvHandle:
        """The sequence in `slot` is gone, its `tokens` stay."""
        self.active.discard(slot)
        self._warm[slot] = handle = KvHandle(tokens, slot=slot)
        self._clean()
        return handle

    def copy(self, slot: int, tokens: int) -> KvHandle | None:
        """What is in `slot` now, in host memory."""
        state = self._context.save(slot)
        return None if state is None else KvHandle(tokens, state=state)

    def state(self, handle: KvHandle) -> State | None:
        """The content of `handle`, wherever it is."""
        return handle.state if handle.slot is None else self._context.save(handle.slot)

    def drop(self, handle: KvHandle, *, keep: int | None = None) -> None:
        """Empty `handle`; the slot `keep` stays as it is."""
        if handle.slot is not None:
            self._warm.pop(handle.slot, None)
            if handle.slot != keep:
                self._context.forget(handle.slot)
        handle.slot = handle.state = None

    def poison(self, slot: int) -> None:
        """Give `slot` to nobody until the whole cache can be wiped."""
        self._poisoned.add(slot)

    def retire(self) -> bool:
        """Move all warm slots to host memory, so that their cells are free; False when there were none."""
        retired = list(self._warm)
        for slot in retired:
            self._vacate(slot)
            self._context.forget(slot)
        return bool(retired)

    def gap_closed(self) -> tuple[int, int] | None:
        """Called each step: what moved from which slot to which, once a gap between running ones has lasted.

        llama.cpp computes the rows of a step together only if their slots are neighbours.
        """
        hole = self._hole()
        self._gaps = 0 if hole is None else self._gaps + 1
        if hole is None or self._gaps < PATIENCE:
            return None
        last = max(self.active)
        self._swap(last, hole)
        self.active.symmetric_difference_update((last, hole))
        return last, hole

    def _hole(self) -> int | None:
        if self._context.unified or not self.active:
            return None
        inside = range(min(self.active), max(self.active))
        return next((slot for slot in inside if slot not in self.active and slot not in self._poisoned), None)

    def _swap(self, active: int, hole: int) -> None:
        moving, warm = self._context.save(active), self._warm.pop(hole, None)
        staying = self._context.save(hole) if warm else None
        self._context.forget(active)
        if moving is None or not self._context.load(hole, moving):
            raise EngineFatal(f"slot {active} could not be moved to {hole}")
        if warm is None:
            return
        if staying is not None and self._context.load(active, staying):
            warm.slot, self._warm[active] = active, warm
        else:
            warm.move(staying)

    def _choose(self, source: KvHandle | None) -> int:
        """The free slot nearest to the running ones: rather not the source's own, rather an empty one, the oldest."""
        ages = {slot: age for age, slot in enumerate(self._warm, 1)}
        free = set(range(self._context.slots)) - self.active - self._poisoned
        home = source.slot if source else None

        def cost(slot: int) -> tuple[int, bool, int, int]:
            around = self.active | {slot}
            return max(around) - min(around) if not self._context.unified else 0, slot == home, ages.get(slot, 0), slot

        return min(free, key=cost)

    def _vacate(self, slot: int) -> None:
        """Move what is warm in `slot` to host memory. The slot's content is left for the caller to use or forget."""
        if handle := self._warm.pop(slot, None):
            handle.move(self._context.save(slot))

    def _fill(self, slot: int, source: KvHandle, tokens: int) -> int:
        """Get the first `tokens` tokens of `source` into `slot`; 0 when that fails."""
        if source.slot == slot:
            filled = True
        elif source.slot is not None:
            filled = self._context.copy(source.slot, slot, tokens)
        else:
            filled = source.state is not None and self._context.load(slot, source.state)
        whole = tokens == source.tokens
        return tokens if filled and (whole or self._context.cut(slot, tokens)) else 0

    def _clean(self) -> None:
        """Non-finite numbers can only be wiped out together with everything else: done once nothing runs."""
        if self._poisoned and not self.active:
            self.retire()
            self._context.wipe()
            self._poisoned.clear()
