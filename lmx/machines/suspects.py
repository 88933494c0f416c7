"""Which request kills workers: one that was in two crashed batches, or that was continued once already."""

from collections.abc import Iterable, Mapping
from hashlib import blake2b

import msgspec
from msgspec import Struct

from lmx.machines.tasks import Task
from lmx.machines.types import Refusal, RefusalKind

FATAL = 2
"""So many crashed batches convict a request."""
QUARANTINE_SECONDS = 600.0
"""How long a convicted request is refused, and how long a single crash is held against one."""
REMEMBERED = 1024
"""Requests that are kept in mind, at most: the latest."""


class Suspicion(Struct, frozen=True):
    """What is held against a request; `at` is when it was in a crashed batch the last time."""

    crashes: int = 0
    alone: int = 0
    """Crashed batches that held nothing else."""
    at: float = 0.0

    @property
    def convicted(self) -> bool:
        return self.crashes >= FATAL


class Verdict(Struct, frozen=True):
    """What a crash adds to what is known, and the requests that may not go on."""

    known: dict[str, Suspicion]
    guilty: tuple[str, ...]


def fingerprint(asked: Task) -> str:
    """The same for the same request, whoever sends it and whenever."""
    return blake2b(msgspec.msgpack.encode(asked), digest_size=16).hexdigest()


def judge(known: dict[str, Suspicion], batch: dict[str, bool], now: float) -> Verdict:
    """A worker died with `batch` in it: fingerprint → whether it has been continued before. Seconds of one clock.

    Equal requests are one: a batch of them is alone.
    """
    after = {mark: _blamed(known.get(mark, Suspicion()), len(batch) == 1, now) for mark in batch}
    guilty = (mark for mark, continued in batch.items() if continued or after[mark].convicted)
    convicted = {mark: _convicted(after[mark]) for mark in guilty}
    return Verdict(after | convicted, tuple(convicted))


def _blamed(before: Suspicion, alone: bool, now: float) -> Suspicion:
    return Suspicion(before.crashes + 1, before.alone + alone, now)


def _convicted(suspicion: Suspicion) -> Suspicion:
    """One that was continued may have been forgotten meanwhile."""
    return Suspicion(max(suspicion.crashes, FATAL), suspicion.alone, suspicion.at)


class Suspects:
    """The memory of it. Holds at most REMEMBERED requests; all times are of one monotonic clock."""

    def __init__(self) -> None:
        self._known: dict[str, Suspicion] = {}
        """The latest come last."""

    def __len__(self) -> int:
        return len(self._known)

    def known(self, batch: Iterable[str], now: float) -> dict[str, Suspicion]:
        """What `judge` has to know of a batch."""
        self._forget(now)
        return {mark: self._known[mark] for mark in batch if mark in self._known}

    def learn(self, known: Mapping[str, Suspicion]) -> None:
        """What a Verdict says."""
        for mark, suspicion in known.items():
            self._known.pop(mark, None)
            self._known[mark] = suspicion
        while len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]

    def acquit(self, asked: Task) -> None:
        """It came to its end in peace."""
        if self._known:
            self._known.pop(fingerprint(asked), None)

    def refusal(self, asked: Task, now: float) -> Refusal | None:
        """Why it is not taken; None when nothing speaks against it."""
        self._forget(now)
        suspicion = self._known.get(fingerprint(asked)) if self._known else None
        if suspicion is None or not suspicion.convicted:
            return None
        left = suspicion.at + QUARANTINE_SECONDS - now
        text = f"The model's worker died {suspicion.crashes} times with this request: it is refused for {left:.0f} s."
        return Refusal(RefusalKind.REQUEST_QUARANTINED, text, left)

    def _forget(self, now: float) -> None:
        """Those whose time is over; the oldest come first."""
        while self._known and now - next(iter(self._known.values())).at >= QUARANTINE_SECONDS:
            del self._known[next(iter(self._known))]
