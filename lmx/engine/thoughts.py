"""Which tokens of a text are thoughts, and how a thought that has been long enough is ended."""

import codecs
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lmx.backends.base import Mask
from lmx.formats.thinking import Habit

WORD = 32


class Thoughts:
    """Counts a text's tokens that are thoughts; those of the marks around a thought are too."""

    def __init__(self, habit: Habit, token_bytes: Sequence[bytes], *, opened: bool) -> None:
        """`opened`: the text begins within a thought."""
        self._habit = habit
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._tail = ""
        """What may still become the next mark."""
        self._undecided: deque[int] = deque()
        """Lengths of the tokens that the tail comes from."""
        self.thinking = opened
        self.count = 0

    @property
    def whole(self) -> bool:
        """The text does not end within a character."""
        return not self._decoder.getstate()[0]

    def feed(self, token: int) -> int:
        """The text's next token; gives how many more are known to be thoughts now."""
        before = self.count
        piece = self._decoder.decode(self._token_bytes[token])
        text = self._tail + piece
        self._undecided.append(len(piece))
        thought = self.thinking
        while (at := text.find(self._mark)) >= 0:
            self._forget(len(text) - at)
            text = text[at + len(self._mark) :]
            self.thinking = not self.thinking
            thought = True
        self._tail = text[len(text) - self._beginning(text) :]
        if thought:
            self.count += len(self._undecided)
            self._undecided.clear()
        self._forget(len(self._tail))
        return self.count - before

    def _forget(self, kept: int) -> None:
        """Tokens before the last so many characters."""
        while self._undecided and sum(self._undecided) - self._undecided[0] >= kept:
            self._undecided.popleft()

    @property
    def _mark(self) -> str:
        """The one that comes next."""
        return self._habit.close if self.thinking else self._habit.open

    def _beginning(self, text: str) -> int:
        """How much of the text's end may be the beginning of the mark."""
        mark = self._mark
        return next((size for size in range(min(len(text), len(mark) - 1), 0, -1) if mark.startswith(text[-size:])), 0)


class Budget:
    """base.Mask: when the thoughts have taken so many tokens, nothing but `ending` may come, token by token.

    `within` is what the text has to match besides; it must let the ending come.
    """

    def __init__(self, thoughts: Thoughts, tokens: int, ending: Sequence[int], vocab: int, within: Mask | None) -> None:
        self._thoughts = thoughts
        self._tokens = tokens
        self._ending = ending
        self._forced: deque[int] = deque()
        self._within = within
        self._all = _words(vocab, range(vocab))
        self._vocab = vocab
        self._check()

    @property
    def fault(self) -> str:
        return self._within.fault if self._within is not None else ""

    def allowed(self) -> NDArray[np.uint32]:
        if self._forced:
            return _words(self._vocab, self._forced[0])
        return self._within.allowed() if self._within is not None else self._all

    def accept(self, token: int) -> None:
        if self._within is not None:
            self._within.accept(token)
        self.follow(token)

    def follow(self, token: int) -> None:
        """The text goes on with this token; `within` knows it already."""
        self._thoughts.feed(token)
        if self._forced:
            self._forced.popleft()
        else:
            self._check()

    def _check(self) -> None:
        thoughts = self._thoughts
        if thoughts.thinking and thoughts.count >= self._tokens and thoughts.whole:
            self._forced.extend(self._ending)


def _words(vocab: int, tokens: int | range) -> NDArray[np.uint32]:
    """A mask that allows these."""
    bits = np.zeros(-(-vocab // WORD) * WORD, np.uint8)
    bits[tokens] = 1
    return np.packbits(bits, bitorder="little").view(np.uint32)
