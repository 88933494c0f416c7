"""After a death, who was in it runs alone for a moment, one after another: who kills again is then alone."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from lmx.machines import frames

REPORTS = 3
"""Frames with tokens after which one is past the place where the worker had died.

A worker tells the first token at once and later ones every 50 ms: what it had written untold took no longer than that.
"""


class Tried(Protocol):
    wire: int
    inserted: bool
    suspect: bool


T = TypeVar("T", bound=Tried)


@dataclass
class Trials(Generic[T]):
    """Who is on trial, and how far that is."""

    _one: T | None = None
    _reports: int = 0

    @property
    def pending(self) -> bool:
        """Somebody runs alone, and everybody else waits."""
        return self._one is not None and self._one.inserted and self._one.suspect

    def begin(self, one: T) -> None:
        self._one, self._reports = one, 0

    def heard(self, seqs: Iterable[frames.SeqStep]) -> bool:
        """What a frame says, and whether somebody stands suspected no more with it."""
        one = self._one
        if one is None or not self.pending or not any(did.seq == one.wire and did.n_tokens for did in seqs):
            return False
        self._reports += 1
        one.suspect = self._reports < REPORTS
        return not one.suspect

    def ended(self, one: T) -> None:
        """Its sequence is over."""
        if one is self._one:
            self._one = None
