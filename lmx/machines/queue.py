"""Who of those that wait for one model is next: deficit round robin over clients, interactive before batch."""

from collections import Counter
from collections.abc import Mapping, Set
from math import inf
from typing import TypeVar

from msgspec import Struct

from lmx.machines.types import Priority

K = TypeVar("K")

WEIGHTS: dict[Priority, float] = {"interactive": 2.0, "batch": 1.0}
"""The classes' shares of the tokens while both wait; the first one is next where they are even."""
TYPICAL_TOKENS = 256.0
"""What a sequence is charged with at first, until it is known what sequences cost here."""
SMOOTHING = 0.1
"""Weight of the newest sequence in that."""
REMEMBERED = 1024
"""Clients whose deficits are kept, at most."""


class Entry(Struct, frozen=True):
    """A sequence that waits."""

    seq: int
    client: str
    group: str
    """Sequences of one group are one request."""
    priority: Priority = "interactive"
    place: int = 0
    """A client's own sequences are served in this order; 0 = in that of their numbers."""

    @property
    def order(self) -> int:
        return self.place or self.seq


class Charge(Struct, frozen=True):
    """What a served sequence was charged with before it was known what it costs."""

    client: str
    priority: Priority
    tokens: float


class Deficits:
    """Tokens that each one was served beyond its turn; the least deficit is next.

    All rounds until somebody is without a deficit are taken at one leap: what its deficit was is forgiven everybody.
    A deficit is never below zero, so whoever was idle has no credit.
    """

    def __init__(self) -> None:
        self._level: dict[str, float] = {}
        self._round = 0.0

    def __len__(self) -> int:
        return len(self._level)

    def of(self, name: str) -> float:
        return max(self._level.get(name, 0.0) - self._round, 0.0)

    def least(self, heads: Mapping[str, int]) -> str:
        """Who is next: the least deficit and, of those that are even, the least number. `heads` has one at least."""
        level, round_, best, least, first = self._level.get, self._round, "", inf, 0
        for name, number in heads.items():
            deficit = level(name, round_)
            deficit = max(deficit, round_)
            if deficit < least or (deficit == least and number < first):
                best, least, first = name, deficit, number
        return best

    def serve(self, name: str, tokens: float) -> None:
        """It is its turn, and this is what that costs."""
        self._round += self.of(name)
        self._level[name] = self._round + tokens
        if len(self._level) > REMEMBERED:
            self._forget()

    def correct(self, name: str, tokens: float) -> None:
        """It cost so many more, or less."""
        self._level[name] = self._level.get(name, self._round) + tokens

    def _forget(self) -> None:
        """Those without a deficit, and the oldest half of the others."""
        owing = [(name, level) for name, level in self._level.items() if level > self._round]
        self._level = dict(owing[-REMEMBERED // 2 :])


def turn(deficits: dict[Priority, float]) -> Priority:
    """Which class is next, of those that wait: the one with the least deficit."""
    return min(deficits, key=lambda priority: (deficits[priority], -WEIGHTS[priority]))


class Queue:
    """Sequences by class and client. Every operation takes time by the number of clients at most."""

    def __init__(self) -> None:
        self._lines: dict[Priority, dict[str, dict[int, Entry]]] = {priority: {} for priority in WEIGHTS}
        self._heads: dict[Priority, dict[str, int]] = {priority: {} for priority in WEIGHTS}
        """The order of each client's next entry."""
        self._entries: dict[int, Entry] = {}
        self._groups: Counter[str] = Counter()
        self._of_client: Counter[str] = Counter()
        self._requests: Counter[Priority] = Counter()
        self._classes = Deficits()
        self._clients: dict[Priority, Deficits] = {priority: Deficits() for priority in WEIGHTS}
        self._typical = TYPICAL_TOKENS

    def __len__(self) -> int:
        """Sequences."""
        return len(self._entries)

    def __contains__(self, seq: object) -> bool:
        return seq in self._entries

    @property
    def groups(self) -> int:
        """Requests."""
        return len(self._groups)

    @property
    def clients(self) -> Set[str]:
        """Those who have something waiting."""
        return self._of_client.keys()

    def requests(self, priority: Priority) -> int:
        """Groups of a class of which something waits."""
        return self._requests[priority]

    def of_client(self, client: str) -> int:
        """The groups of one client of which something waits."""
        return self._of_client[client]

    def add(self, entry: Entry) -> None:
        self._entries[entry.seq] = entry
        line = self._lines[entry.priority].setdefault(entry.client, {})
        line[entry.seq] = entry
        if entry.place:  # it goes before others that came earlier
            line = dict(sorted(line.items(), key=lambda item: item[1].order))
            self._lines[entry.priority][entry.client] = line
        self._heads[entry.priority][entry.client] = next(iter(line.values())).order
        if not self._groups[entry.group]:
            self._of_client[entry.client] += 1
            self._requests[entry.priority] += 1
        self._groups[entry.group] += 1

    def remove(self, seq: int) -> Entry | None:
        """It waits no longer, and costs nothing; None when it did not wait."""
        entry = self._entries.pop(seq, None)
        if entry is None:
            return None
        lines, heads = self._lines[entry.priority], self._heads[entry.priority]
        line = lines[entry.client]
        del line[seq]
        if line:
            heads[entry.client] = next(iter(line.values())).order
        else:
            del lines[entry.client], heads[entry.client]
        if _is_last(self._groups, entry.group):
            _is_last(self._of_client, entry.client)
            _is_last(self._requests, entry.priority)
        return entry

    def waiting(self) -> dict[Priority, float]:
        """What `turn` has to know: the deficits of the classes that wait."""
        return {priority: self._classes.of(priority) for priority, line in self._lines.items() if line}

    def pop(self, priority: Priority) -> tuple[Entry, Charge]:
        """The next one of a class that waits; its client, and its class, are charged with what is typical."""
        deficits = self._clients[priority]
        client = deficits.least(self._heads[priority])
        entry = next(iter(self._lines[priority][client].values()))
        self.remove(entry.seq)
        charge = Charge(client, priority, self._typical)
        deficits.serve(client, charge.tokens)
        self._classes.serve(priority, charge.tokens / WEIGHTS[priority])
        return entry, charge

    def settle(self, charge: Charge, tokens: int) -> None:
        """A sequence has ended; `tokens` is what it really cost, prompt and completion."""
        more = tokens - charge.tokens
        self._clients[charge.priority].correct(charge.client, more)
        self._classes.correct(charge.priority, more / WEIGHTS[charge.priority])
        self._typical += SMOOTHING * (tokens - self._typical)


def _is_last(counter: Counter[K], key: K) -> bool:
    """Count one less; whether it was the last one."""
    counter[key] -= 1
    if counter[key]:
        return False
    del counter[key]
    return True
