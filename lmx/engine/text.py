"""From tokens to text: whole characters only, and nothing of a stop string ever leaves."""

import codecs
from collections.abc import Iterable, Sequence
from typing import Any


class Detokenizer:
    """Bytes of tokens in, text out; a character that is split over tokens comes with its last one."""

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        return self._decoder.decode(self._token_bytes[token])

    def flush(self) -> str:
        """What an unfinished character leaves: U+FFFD, or nothing."""
        return self._decoder.decode(b"", final=True)


class StopFinder:
    """Passes text on up to the first stop string; holds back what may become one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.found = ""
        """The stop string that was found first, "" until then."""

    def feed(self, text: str) -> str:
        """The text that is safe to show. Once `found`, nothing more is."""
        if not self._stops:
            return text
        self._held += text
        hits = [(at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if hits:
            first, self.found = min(hits)
            shown, self._held = self._held[:first], ""
            return shown
        keep = self._may_become_a_stop()
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def flush(self) -> str:
        """What was held back, once it is sure that no stop string follows."""
        shown, self._held = self._held, ""
        return shown

    def _may_become_a_stop(self) -> int:
        """Length of the longest tail that begins a stop string."""
        longest = min(len(self._held), max(map(len, self._stops)) - 1)
        for length in range(longest, 0, -1):
            tail = self._held[-length:]
            if any(stop.startswith(tail) for stop in self._stops):
                return length
        return 0


def detokenized(tokens: Iterable[int], token_bytes: Sequence[bytes]) -> str:
    """The text of tokens, control tokens left out."""
    return b"".join([token_bytes[token] for token in tokens]).decode("utf-8", "replace")


def shared(first: Sequence[Any], second: Sequence[Any]) -> int:
    """How many tokens (or characters) two sequences begin with in common."""
    limit = min(len(first), len(second))
    if first[:limit] == second[:limit]:
        return limit
    low, high = 0, limit  # first[:low] is common, first[:high] is not: compared by halves, at the speed of C
    while high - low > 1:
        middle = (low + high) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle
    return low
