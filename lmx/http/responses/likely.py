"""Which tokens' log-probabilities belong to the answer: those of thoughts, calls and marks are not told."""

from collections.abc import Iterable
from itertools import accumulate

from lmx.machines.types import TokenLogprob

SPLIT = "\ufffd"
"""What is told of a character that was cut off."""


class Waiting:
    """Tokens of which it is not known yet what they are part of."""

    def __init__(self) -> None:
        self._tokens: list[TokenLogprob] = []

    def add(self, tokens: Iterable[TokenLogprob]) -> None:
        self._tokens += tokens

    def take(self, text: str) -> list[TokenLogprob]:
        """Those that `text` is made of; whatever came before them is forgotten."""
        if not self._tokens:
            return []
        piece = text.encode()
        start = self._place(piece)
        if start < 0:  # the last character is split, or the text is not what the tokens spell
            whole = self._place(text.rstrip(SPLIT).encode())
            taken, self._tokens = self._tokens[self._at(max(0, whole)) :], []
            return taken
        first, last = self._at(start), self._at(start + len(piece) - 1)
        taken, self._tokens = self._tokens[first : last + 1], self._tokens[last + 1 :]
        return taken

    def _place(self, piece: bytes) -> int:
        """Where it begins: with a token, if it can; the letters of a mark before it are others. -1 = nowhere."""
        written = b"".join(token.text for token in self._tokens)
        ends = accumulate(len(token.text) for token in self._tokens)
        return next((place for place in (0, *ends) if written.startswith(piece, place)), written.find(piece))

    def _at(self, place: int) -> int:
        """Which token the byte belongs to."""
        for index, token in enumerate(self._tokens):
            place -= len(token.text)
            if place < 0:
                return index
        return len(self._tokens) - 1
