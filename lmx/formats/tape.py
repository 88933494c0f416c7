"""A text that is still being written, for readers that wait for the rest of it."""

import sys
from collections.abc import Generator
from typing import TypeVar

from lmx.formats.parts import Part

T = TypeVar("T")
Reading = Generator[Part | None, None, T]
"""Gives parts as soon as they are known, and None where it can only go on with more text."""


class Malformed(Exception):
    """What was read is not what it began as: it is text."""


class Truncated(Malformed):
    """The text ended too early."""


class Tape:
    """Positions move when text is added: readers keep none of their own while they wait.

    at:       where the reader is.
    told:     what is before it has been told, or need not be.
    tellings: how often something was told.
    """

    def __init__(self) -> None:
        self.text = ""
        self.at = self.told = self.tellings = 0
        self.ended = False

    def add(self, text: str) -> None:
        """More text; what was told is forgotten."""
        self.text = self.text[self.told :] + text
        self.at -= self.told
        self.told = 0

    def tell(self) -> None:
        """All that was read is accounted for."""
        self.told = self.at
        self.tellings += 1

    def more(self) -> Reading[None]:
        """Wait. Raises Truncated when nothing will come."""
        if self.ended:
            raise Truncated
        yield None

    def maybe(self, *literals: str) -> Reading[str]:
        """The one that comes now, read; or "" if it is none of them. None is the beginning of another."""
        size = max(map(len, literals))
        while True:
            rest = self.text[self.at : self.at + size]
            for literal in literals:
                if rest.startswith(literal):
                    self.at += len(literal)
                    return literal
            if not any(literal.startswith(rest) for literal in literals) or self.ended:
                return ""
            yield from self.more()

    def expect(self, *literals: str) -> Reading[str]:
        """As maybe, but one of them must come. Raises Malformed."""
        if found := (yield from self.maybe(*literals)):
            return found
        rest = self.text[self.at :]
        raise Truncated if self.ended and any(literal.startswith(rest) for literal in literals) else Malformed

    def peek(self) -> Reading[str]:
        """The next character, not read. Raises Truncated."""
        while self.at == len(self.text):
            yield from self.more()
        return self.text[self.at]

    def blank(self) -> Reading[None]:
        """Skip white space, if any."""
        while True:
            rest = self.text[self.at :].lstrip()
            self.at = len(self.text) - len(rest)
            if rest or self.ended:
                return
            yield from self.more()

    def until(self, *marks: str, most: int = sys.maxsize) -> Reading[tuple[str, str]]:
        """The text before the mark that comes first, and the mark; both read.

        Raises Truncated; Malformed where the text is longer than `most` characters.
        """
        seen = 0
        while True:
            start = self.at + seen
            found = [(place, mark) for mark in marks if (place := self.text.find(mark, start)) >= 0]
            place, mark = min(found, default=(len(self.text) - max(map(len, marks)) + 1, ""))
            if place - self.at > most:
                raise Malformed
            if mark:
                text = self.text[self.at : place]
                self.at = place + len(mark)
                return text, mark
            seen = max(0, place - self.at)
            yield from self.more()

    def close(self, *literals: str) -> Reading[str]:
        """What should come after something that was told already, with white space before it.

        It is accounted for, also where only its beginning came; anything else is left to be read as text: "".
        """
        yield from self.blank()
        found = yield from self.maybe(*literals)
        rest = self.text[self.at :]
        if found or (self.ended and any(literal.startswith(rest) for literal in literals)):
            self.at = self.at if found else len(self.text)
            self.tell()
        else:
            self.at = self.told
        return found


def held(text: str, marks: tuple[str, ...]) -> int:
    """How many of the last characters may be the beginning of a mark."""
    longest = min(len(text), max(map(len, marks), default=1) - 1)
    for size in range(longest, 0, -1):
        if any(mark.startswith(text[-size:]) for mark in marks):
            return size
    return 0
