"""What a format is: one way in which models write calls of functions."""

from abc import ABC, abstractmethod
from collections.abc import Container, Sequence
from typing import Any, ClassVar

from lmx.formats.parts import CallArguments, CallBegun, CallEnded
from lmx.formats.tape import Malformed, Reading, Tape

Function = dict[str, Any]
"""name, description and parameters (a JSON schema)."""


class Unforceable(Exception):
    """Calls of this format cannot be made to come; the message is a sentence for the user."""


class Calls:
    """The calls of one text: what may be called, and how far it has come."""

    def __init__(self, tape: Tape, functions: Sequence[Function], eager: Container[str] | None = None) -> None:
        """`eager`: functions whose calls are told as they come, others when they have ended; None = all."""
        self.functions = {str(function["name"]): function for function in functions}
        self._tape = tape
        self._eager = eager
        self._number = self._current = -1
        self._ended = 0
        self.held = False
        """The call that began last is not told before it has ended: until then it may still be text."""

    @property
    def called(self) -> bool:
        """At least one has ended."""
        return self._ended > 0

    @property
    def whole(self) -> bool:
        """Every one that was told has ended."""
        return self._ended == self._number + 1

    def function(self, name: str) -> Function:
        """Raises Malformed for one that is not declared."""
        if name not in self.functions:
            raise Malformed
        return self.functions[name]

    def name(self) -> Reading[str]:
        """The declared name that comes now, read. Raises Malformed as soon as there can be none."""
        tape = self._tape
        while True:
            rest = tape.text[tape.at :]
            if tape.ended or not any(name != rest and name.startswith(rest) for name in self.functions):
                break
            yield from tape.more()
        found = max((name for name in self.functions if rest.startswith(name)), key=len, default="")
        if not found:
            raise Malformed
        tape.at += len(found)
        return found

    def comes(self) -> Reading[bool]:
        """Whether a declared name comes now; it is not read."""
        try:
            name = yield from self.name()
        except Malformed:
            return False
        self._tape.at -= len(name)
        return True

    def begin(self, name: str, id: str = "") -> CallBegun:
        """What was read so far is the beginning of a call. Raises Malformed for a function that is not declared."""
        self.function(name)
        self._current = self._number + 1
        self.held = self._eager is not None and name not in self._eager
        if not self.held:
            self._number = self._current
            self._tape.tell()
        return CallBegun(self._current, name, id)

    def arguments(self, text: str) -> CallArguments:
        """What was read so far is in `text`."""
        if not self.held:
            self._tape.tell()
        return CallArguments(self._current, text)

    def end(self) -> CallEnded:
        self._tape.tell()
        self._number = self._current
        self._ended += 1
        return CallEnded(self._number)


class Format(ABC):
    name: ClassVar[str]
    marks: ClassVar[tuple[str, ...]]
    """What a call consists of besides names and values: it must be visible in the text."""
    begins: ClassVar[tuple[str, ...]]
    """Where one of these comes, calls may come. None is the beginning of another."""
    leads: ClassVar[bool] = False
    """Calls may be the whole answer, without a mark before them."""
    ends: ClassVar[tuple[str, ...]] = ()
    """After one of these exactly one call is complete."""

    @abstractmethod
    def recognised(self, template: str) -> bool:
        """Whether this is what a chat template (Jinja source) teaches."""

    @abstractmethod
    def read(self, tape: Tape, calls: Calls) -> Reading[None]:
        """One or more calls, from their first mark on. Raises Malformed; then what was not told is text."""

    @abstractmethod
    def grammar(self, functions: Sequence[Function], *, parallel: bool) -> str:
        """Lark (llguidance's dialect) whose rule `calls` is one or more calls, exactly one if not parallel.

        All other rules are named calls_…; there is no rule `start`. Raises Unforceable.
        """
