"""Who is next: interactive before batch, the least left to read first, and nobody waits for ever."""

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from lmx.machines.types import Generation

TOKENS_PER_SECOND = 500
"""A second of waiting counts as so many tokens less."""
BATCH_TOKENS = 20_000
"""The class `batch` counts as having so many tokens more."""
PREEMPTIONS = 2
"""How often one prompt gives way to shorter ones."""
REMEMBERED = 1024
TIMES_LONGER, TOKENS_LONGER = 4, 512


class Item(Protocol):
    """What engine.intake.Ready has."""

    @property
    def seq(self) -> int: ...

    @property
    def generation(self) -> Generation: ...


T = TypeVar("T", bound=Item)


class Waiting(Generic[T]):
    """Those who have no slot yet, in the order of their arrival. Used by one thread; `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._items: dict[int, T] = {}
        self._since: dict[int, float] = {}
        self._preempted: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        return iter(tuple(self._items.values()))

    def __contains__(self, seq: object) -> bool:
        return seq in self._items

    def add(self, item: T) -> None:
        self._items[item.seq] = item
        self._since[item.seq] = self._clock()

    def put_back(self, item: T) -> None:
        """It gave up its place and waits again; it does so only a few times."""
        self._preempted[item.seq] = self._preempted.pop(item.seq, 0) + 1
        if len(self._preempted) > REMEMBERED:
            del self._preempted[next(iter(self._preempted))]
        self.add(item)

    def remove(self, seq: int) -> T | None:
        """It waits no longer; None when it did not wait."""
        self._since.pop(seq, None)
        return self._items.pop(seq, None)

    def next(self, remaining: Callable[[T], int]) -> T | None:
        """Who should be taken now; stays until it is removed. `remaining` is the number of tokens left to read."""
        now = self._clock()

        def rank(item: T) -> float:
            batch = BATCH_TOKENS if item.generation.priority == "batch" else 0
            return remaining(item) + batch - TOKENS_PER_SECOND * (now - self._since[item.seq])

        return min(self._items.values(), key=rank, default=None)

    def pop(self, remaining: Callable[[T], int]) -> T | None:
        """`next`, removed."""
        item = self.next(remaining)
        return None if item is None else self.remove(item.seq)

    def should_preempt(
        self, running: Iterable[tuple[T, int]], candidate_remaining: int, *, batch: bool = False
    ) -> T | None:
        """Of the prompts that are being read the longest, when it should give way to a much shorter one.

        `batch`: the candidate is of that class, and takes nobody's place who is not.
        """
        least = max(TIMES_LONGER * candidate_remaining, candidate_remaining + TOKENS_LONGER)
        long = [
            (left, item)
            for item, left in running
            if left >= least
            and self._preempted.get(item.seq, 0) < PREEMPTIONS
            and (not batch or item.generation.priority == "batch")
        ]
        return max(long, key=lambda pair: pair[0])[1] if long else None
