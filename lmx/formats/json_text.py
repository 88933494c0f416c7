"""JSON that is still being written."""

import json
import re
from typing import Any

from lmx.formats.base import Calls
from lmx.formats.tape import Malformed, Reading, Tape
from lmx.machines.limits import DEPTH

_BLANK = re.compile(r"[ \t\r\n]*")
_BARE = re.compile(r"[-+.0-9A-Za-z]+")
_LITERAL = re.compile(r"true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?", re.ASCII)
_IN_STRING = re.compile(r'(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*')
_PART_OF_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_LONGEST = 400
"""Characters of a number."""
_CLOSES = {"}": "{", "]": "["}


class JsonText:
    """One JSON value, read as it comes.

    A raw control character in a string, which JSON forbids and models write, becomes its escape.
    """

    def __init__(self) -> None:
        self.done = self.bad = False
        self._open: list[str] = []
        self._awaits = "value"
        """value, first (value or end), key, member (key or end), colon, comma (or end), string, name (in a key)."""

    def take(self, text: str, at: int) -> tuple[int, str]:
        """Read on, as far as possible; gives the new position and what was read.

        Sets `done` after the value's last character, and `bad` at the first one that cannot be there. Stops before
        what can only be judged with more text.
        """
        pieces: list[str] = []
        while not self.done and not self.bad and at < len(text):
            if self._awaits in ("string", "name"):
                end, piece = self._string(text, at)
            else:
                end, piece = self._token(text, at)
            if end == at:
                break
            pieces.append(piece)
            at = end
        return at, "".join(pieces)

    def _string(self, text: str, at: int) -> tuple[int, str]:
        found = _IN_STRING.match(text, at)
        end = found.end() if found else at
        piece = text[at:end]
        if end == len(text) or _PART_OF_ESCAPE.match(text, end):
            return end, piece
        if text[end] == '"':
            self._after_string()
            return end + 1, piece + '"'
        if text[end] == "\\":
            self.bad = True
            return end, piece
        return end + 1, piece + json.dumps(text[end])[1:-1]

    def _after_string(self) -> None:
        if self._awaits == "name":
            self._awaits = "colon"
        else:
            self._after_value()

    def _after_value(self) -> None:
        self._awaits = "comma"
        self.done = not self._open

    def _token(self, text: str, at: int) -> tuple[int, str]:
        blank = _BLANK.match(text, at)
        if blank and blank.end() > at:
            return blank.end(), blank[0]
        if bare := _BARE.match(text, at):
            return self._bare(text, at, bare[0])
        self._sign(text[at])
        return (at, "") if self.bad else (at + 1, text[at])

    def _bare(self, text: str, at: int, word: str) -> tuple[int, str]:
        """A number or a name; it is judged when it is complete."""
        if at + len(word) == len(text) and len(word) <= _LONGEST:
            return at, ""
        if len(word) > _LONGEST or self._awaits not in ("value", "first") or not _LITERAL.fullmatch(word):
            self.bad = True
            return at, ""
        self._after_value()
        return at + len(word), word

    def _sign(self, sign: str) -> None:
        awaits = self._awaits
        if sign in "{[" and awaits in ("value", "first") and len(self._open) < DEPTH:
            self._open.append(sign)
            self._awaits = "member" if sign == "{" else "first"
        elif sign == '"' and awaits in ("value", "first", "key", "member"):
            self._awaits = "string" if awaits in ("value", "first") else "name"
        elif sign == ":" and awaits == "colon":
            self._awaits = "value"
        elif sign == "," and awaits == "comma":
            self._awaits = "key" if self._open[-1] == "{" else "value"
        elif sign in "}]" and awaits in ("comma", "first", "member") and self._open[-1] == _CLOSES[sign]:
            self._open.pop()
            self._after_value()
        else:
            self.bad = True


def value(tape: Tape) -> Reading[str]:
    """The JSON value that comes now, complete. Raises Malformed."""
    scanner, pieces = JsonText(), list[str]()
    while True:
        tape.at, piece = scanner.take(tape.text, tape.at)
        pieces.append(piece)
        if scanner.done:
            return "".join(pieces).strip()
        if scanner.bad:
            raise Malformed
        yield from tape.more()


def stream(tape: Tape, calls: Calls) -> Reading[None]:
    """The JSON object that comes now, told as the arguments of the call that has begun. Raises Malformed."""
    yield from tape.blank()
    if (yield from tape.peek()) != "{":
        raise Malformed
    scanner = JsonText()
    while True:
        tape.at, piece = scanner.take(tape.text, tape.at)
        if piece:
            yield calls.arguments(piece)
        if scanner.done:
            return
        if scanner.bad:
            raise Malformed
        yield from tape.more()


def parsed(text: str) -> Any:
    """As Python knows it. Raises Malformed."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Malformed from error
