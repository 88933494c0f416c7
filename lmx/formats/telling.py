"""How plain text is told: as soon as it is certain, without the white space next to what it is not."""

import re
from typing import Literal

from lmx.formats.parts import Said, Thought
from lmx.formats.tape import Malformed, Reading, Tape, held

Kind = type[Said] | type[Thought]

_BLANK_LINES = re.compile(r"\s*\n")


class Telling:
    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.after: Literal["", "mark", "call"] = ""
        """What came right before this place: the mark of a thought, or a call."""

    def text(self, kind: Kind, marks: tuple[str, ...]) -> Reading[str]:
        """Tell text up to the next of the marks, which is not read yet; "" at the end of it all."""
        tape, search = self.tape, re.compile("|".join(map(re.escape, marks)) or r"(?!)")
        while True:
            found = search.search(tape.text, tape.at)
            if found is None and tape.ended:
                yield from self._tail(kind)
                return ""
            end = found.start() if found else len(tape.text) - held(tape.text[tape.at :], marks)
            yield from self._told(kind, len(tape.text[:end].rstrip()))
            tape.at = end
            if found:
                return found[0]
            yield from tape.more()

    def skip(self, mark: str) -> None:
        """Read a mark, which is not told. White space before it is not either."""
        self.tape.at += len(mark)
        self.tape.tell()
        self.after = "mark"

    def attempt(self, reading: Reading[None], past: int) -> Reading[None]:
        """Calls from here on; if there are none, text is read on `past` characters after this place."""
        tape = self.tape
        tellings, ahead = tape.tellings, tape.at - tape.told
        try:
            yield from reading
            self.after = "call"
        except Malformed:
            if tape.tellings == tellings:
                tape.at = tape.told + ahead + past
            else:
                tape.at, self.after = tape.told, "call"

    def _told(self, kind: Kind, end: int) -> Reading[None]:
        """Up to here, before white space of which it is not known yet what follows it."""
        tape = self.tape
        if end <= tape.told:
            return
        text, tape.at = tape.text[tape.told : end], end
        tape.tell()
        if self.after == "mark" and (blank := _BLANK_LINES.match(text)):
            text = text[blank.end() :]
        self.after = ""
        yield kind(text)

    def _tail(self, kind: Kind) -> Reading[None]:
        tape = self.tape
        if tape.text[tape.told :].strip() or not self.after:
            yield from self._told(kind, len(tape.text))
        tape.at = len(tape.text)
