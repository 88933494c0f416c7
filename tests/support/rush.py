"""A fake engine in fake time behind a queue and a limit: what many clients get of it."""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

from lmx.machines import concurrency
from lmx.machines.concurrency import Concurrency
from lmx.machines.queue import Charge, Entry, Queue, turn
from lmx.machines.types import Priority


@dataclass
class Rush:
    """Every client sends its next request when it has its answer, or has waited for `patience` seconds in vain.

    A sequence has a slot for `prefill` + `decode` seconds; whoever has none waits inside the engine, in order. What
    engine and queue tell each other takes `travel` seconds.
    """

    slots: int = 4
    prefill: float = 0.1
    decode: float = 0.4
    travel: float = 0.005
    patience: float = 30.0
    fixed: int | None = None
    """This limit instead of one that adapts."""
    now: float = 0.0
    limits: list[tuple[float, int]] = field(default_factory=list)
    """Time and limit, after every sequence that ended."""
    served: dict[str, list[float]] = field(default_factory=dict)
    """By client, how long each of its requests waited for its first token."""
    failed: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.concurrency = Concurrency(self.slots)
        self._queue = Queue()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._seqs = count(1)
        self._running = 0
        self._inside: list[tuple[int, Callable[[], None]]] = []
        self._busy = 0
        self._sent: dict[int, float] = {}
        self._clients: set[str] = set()

    @property
    def limit(self) -> int:
        return self.fixed or self.concurrency.limit

    def join(self, *clients: str, priority: Priority = "interactive") -> None:
        for name in clients:
            self._clients.add(name)
            self._send(name, priority)

    def leave(self, *clients: str) -> None:
        """They send no more."""
        self._clients.difference_update(clients)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, event = heapq.heappop(self._events)
            event()
        self.now = end

    def times(self, *clients: str) -> Iterator[float]:
        for name in clients:
            yield from self.served.get(name, ())

    def _at(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), event))

    def _send(self, name: str, priority: Priority) -> None:
        if name in self._clients:
            seq = next(self._seqs)
            self._sent[seq] = self.now
            self._queue.add(Entry(seq, name, str(seq), priority))
            self._at(self.patience, lambda: self._give_up(seq, name, priority))
            self._flow()

    def _give_up(self, seq: int, name: str, priority: Priority) -> None:
        if self._queue.remove(seq) is not None:
            self.failed[name] = self.failed.get(name, 0) + 1
            self._at(1.0, lambda: self._send(name, priority))

    def _flow(self) -> None:
        while len(self._queue) and self._running < self.limit:
            entry, charge = self._queue.pop(turn(self._queue.waiting()))
            waited = self._running >= self.slots
            self._running += 1
            self._at(self.travel, lambda e=entry, c=charge, w=waited, t=self.now: self._arrive(e, c, w, t))  # type: ignore[misc]
        if len(self._queue):
            self.concurrency.want()

    def _arrive(self, entry: Entry, charge: Charge, waited: bool, given: float) -> None:
        self._inside.append((entry.seq, lambda: self._start(entry, charge, waited, given)))
        self._fill()

    def _fill(self) -> None:
        while self._inside and self._busy < self.slots:
            self._busy += 1
            self._inside.pop(0)[1]()

    def _start(self, entry: Entry, charge: Charge, waited: bool, given: float) -> None:
        self._at(self.prefill, lambda: self._at(self.travel, lambda: self._began(entry, waited, given)))
        self._at(self.prefill + self.decode, lambda: self._free(entry, charge))

    def _began(self, entry: Entry, waited: bool, given: float) -> None:
        self.served.setdefault(entry.client, []).append(self.now - self._sent[entry.seq])
        window = self.concurrency.began(self.now - given, 100, waited=waited, now=self.now)
        if window is not None:
            self.concurrency.exact = concurrency.follow(self.concurrency.exact, self.slots, window)
            self._flow()

    def _free(self, entry: Entry, charge: Charge) -> None:
        self._busy -= 1
        self._fill()
        self._at(self.travel, lambda: self._ended(entry, charge))

    def _ended(self, entry: Entry, charge: Charge) -> None:
        self._running -= 1
        self._queue.settle(charge, 200)
        self.limits.append((self.now, self.limit))
        self._flow()
        self._send(entry.client, entry.priority)
