"""Prompt lookup: what followed the last time is guessed to follow again; and whether guessing pays at all."""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

BULK = 512
"""From so many tokens on they are indexed by numpy: less memory, and faster than one by one."""
LEVELS = (2, 3, 4, 8, 16)
"""Lengths of a repetition so far, from which on its next token has odds of its own."""
PRIOR_ODDS = (0.1, 0.2, 0.3, 0.6, 0.8)
PRIOR_WEIGHT, MEMORY = 2.0, 0.95
"""What the prior odds count, in observations; and what is left of an old observation with each new one."""

_MULTIPLIER, _SHIFT, _BITS = 0x9E3779B97F4A7C15, 29, 2**64 - 1


class Odds(Protocol):
    def odds(self, index: int) -> float:
        """How likely the guess number `index` (from 0) is right, if those before it are."""
        ...


class _Block:
    """n-grams of many tokens: their hashes in order, and where the latest of each ends. About 12 bytes a token."""

    def __init__(self, tokens: NDArray[np.int32], size: int, offset: int) -> None:
        hashes = _hashes(tokens, size)
        latest = len(hashes) - 1 - np.unique(hashes[::-1], return_index=True)[1]
        self._hashes = hashes[latest]
        self._ends = (latest + size + offset).astype(np.int32)

    def find(self, key: np.uint64) -> int:
        at = self._hashes.searchsorted(key)
        return int(self._ends[at]) if at < len(self._hashes) and self._hashes[at] == key else -1


def _hashes(tokens: NDArray[np.int32], size: int) -> NDArray[np.uint64]:
    """One for each n-gram of `size` tokens; different n-grams may share one."""
    wide, count = tokens.astype(np.uint64), len(tokens) - size + 1
    total = np.zeros(count, np.uint64)
    for at in range(size):
        total = (total ^ wide[at : at + count]) * np.uint64(_MULTIPLIER)
        total ^= total >> np.uint64(_SHIFT)
    return total


def _hash(tokens: Iterable[int]) -> np.uint64:
    """The same for one n-gram, without numpy's cost of a call."""
    total = 0
    for token in tokens:
        total = ((total ^ token) * _MULTIPLIER) & _BITS
        total ^= total >> _SHIFT
    return np.uint64(total)


class Lookup:
    """The text of one sequence, and where it repeats itself.

    Every token that comes is compared with what had been guessed, also where nobody asked for the guess: so the odds
    are known before a single guess is paid for.
    """

    def __init__(self, draft_tokens: int, ngram: tuple[int, int] = (2, 4)) -> None:
        """`ngram`: the shortest and the longest repetition that is looked for."""
        self._draft_tokens = draft_tokens
        self._sizes = range(ngram[0], ngram[1] + 1)
        self._tokens = array("i")
        self._indexed = 0
        self._blocks: dict[int, list[_Block]] = {size: [] for size in self._sizes}
        self._tail: dict[tuple[int, ...], int] = {}
        self._next = -1
        self._run = 0
        self._hits = [odds * PRIOR_WEIGHT for odds in PRIOR_ODDS]
        self._tries = [PRIOR_WEIGHT] * len(PRIOR_ODDS)

    def __len__(self) -> int:
        return len(self._tokens)

    def extend(self, tokens: Sequence[int]) -> None:
        """These came next: the prompt, then each step's tokens. O(1) a token, O(log n) a call after a long one."""
        if len(tokens) >= BULK:
            self._tokens.extend(tokens)
            self._index_all()
            self._next, self._run = -1, 0
            self._search()
            return
        for token in tokens:
            self._judge(token)
            self._tokens.append(token)
            self._index_one()
            if self._run < self._sizes[-1]:
                self._search()

    def propose(self, limit: int) -> list[int]:
        """At most `limit` tokens: those after the latest earlier place that ended like this one; a loop goes on."""
        if self._next < 0 or limit <= 0:
            return []
        size = min(limit, self._draft_tokens)
        period = len(self._tokens) - self._next
        seen = self._tokens[self._next : self._next + size].tolist()
        return [seen[at % period] for at in range(size)]

    def odds(self, index: int) -> float:
        """How likely the guess number `index` (from 0) is right, if those before it are; 0 without a repetition."""
        if self._next < 0:
            return 0.0
        level = self._level(self._run + index)
        return self._hits[level] / self._tries[level]

    @staticmethod
    def _level(run: int) -> int:
        return max(0, bisect_right(LEVELS, run) - 1)

    def _judge(self, token: int) -> None:
        """Was it the one that the repetition promised?"""
        if self._next < 0:
            return
        hit, level = self._tokens[self._next] == token, self._level(self._run)
        self._hits[level] = self._hits[level] * MEMORY + hit
        self._tries[level] = self._tries[level] * MEMORY + 1
        self._run = self._run + 1 if hit else 0
        self._next = self._next + 1 if hit else -1

    def _index_all(self) -> None:
        start = max(0, self._indexed - self._sizes[-1] + 1)
        fresh = np.array(self._tokens[start:-1], np.int32)
        for size in self._sizes:
            if len(fresh) >= size:
                self._blocks[size].append(_Block(fresh, size, start))
        self._indexed = len(self._tokens) - 1

    def _index_one(self) -> None:
        """The n-grams that end before the newest token: what follows them is known only now."""
        end = self._indexed = len(self._tokens) - 1
        for size in self._sizes:
            if end >= size:
                self._tail[tuple(self._tokens[end - size : end])] = end

    def _search(self) -> None:
        """The latest earlier place that ended with the same tokens; the longest such ending counts."""
        for size in self._sizes:
            if size <= self._run or len(self._tokens) < size:
                continue
            place = self._place(size)
            if place < 0:
                return
            self._next, self._run = place, size

    def _place(self, size: int) -> int:
        last = self._tokens[-size:]
        place = self._tail.get(tuple(last), -1)
        if self._blocks[size]:
            key = _hash(last)
            place = max(place, *(block.find(key) for block in self._blocks[size]))
        return place if place >= 0 and self._tokens[place - size : place] == last else -1
