"""From the text that a model writes to what it means: answer, thoughts and calls."""

from collections.abc import Container, Sequence

from lmx.formats.base import Calls, Function
from lmx.formats.harmony import Harmony, messages
from lmx.formats.parts import CallArguments, CallBegun, CallEnded, Part, Said, Thought
from lmx.formats.table import FORMATS
from lmx.formats.tape import Reading, Tape
from lmx.formats.telling import Telling
from lmx.formats.thinking import HABITS
from lmx.machines.speech import Speech


class Parting:
    """Takes one text piece by piece, and gives its parts as soon as they are certain.

    How the text is cut into pieces makes no difference. White space next to calls and to the marks of thoughts is not
    told. A call of a function that is not declared, or that is malformed, is text. Where that shows only after a call
    has begun, or where the text ends within its arguments, it gets no CallEnded: the next part is of something else.
    """

    def __init__(self, speech: Speech, functions: Sequence[Function] = (), eager: Container[str] | None = None) -> None:
        """Without functions calls are not looked for, and their marks are text.

        `eager`: functions whose calls are told as they come; None = all. A call of another one is told when it has
        ended, and one that does not end well is text from its first mark on.
        """
        self._tape = Tape()
        self._calls = Calls(self._tape, functions, eager)
        self._held: list[Part] = []
        self._format = FORMATS.get(speech.calls) if functions else None
        self._habit = HABITS.get(speech.thoughts)
        self._telling = Telling(self._tape)
        harmony = speech.thoughts == Harmony.name
        self._reading = messages(self._telling, self._calls, speech) if harmony else self._all(speech.opened)

    @property
    def called(self) -> bool:
        """At least one call has ended well."""
        return self._calls.called

    @property
    def whole(self) -> bool:
        """No call has begun that has not ended."""
        return self._calls.whole

    def feed(self, text: str) -> list[Part]:
        """The parts that are certain now."""
        if not text:
            return []
        self._tape.add(text)
        return self._parts()

    def end(self) -> list[Part]:
        """The text is complete: the parts that were held back. May be called once."""
        self._tape.ended = True
        return self._parts()

    def _parts(self) -> list[Part]:
        parts: list[Part] = []
        for part in self._reading:
            if part is None:
                break
            parts += self._told(part)
        return parts

    def _told(self, part: Part) -> list[Part]:
        """What is certain with this part."""
        if self._calls.held and isinstance(part, CallBegun | CallArguments):
            self._held = [part] if isinstance(part, CallBegun) else [*self._held, part]
            return []
        held, self._held = self._held, []
        return [*held, part] if isinstance(part, CallEnded) else [part]

    def _all(self, opened: bool) -> Reading[None]:
        """The whole text."""
        if opened and self._habit is not None:
            yield from self._thought()
        yield from self._lead()
        while mark := (yield from self._telling.text(Said, self._marks)):
            if self._habit is None or mark != self._habit.open:
                yield from self._call(past=1)
                continue
            self._telling.skip(mark)
            yield from self._thought()
            yield from self._lead()

    @property
    def _marks(self) -> tuple[str, ...]:
        """What may come within the answer."""
        thought = (self._habit.open,) if self._habit is not None else ()
        return thought + (self._format.begins if self._format is not None else ())

    def _thought(self) -> Reading[None]:
        """Up to the mark that ends it."""
        assert self._habit is not None
        self._telling.after = "mark"
        if mark := (yield from self._telling.text(Thought, (self._habit.close,))):
            self._telling.skip(mark)

    def _lead(self) -> Reading[None]:
        """Calls that are the whole answer, where the format has such."""
        if self._format is not None and self._format.leads:
            yield from self._tape.blank()
            yield from self._call(past=0)

    def _call(self, past: int) -> Reading[None]:
        assert self._format is not None
        yield from self._telling.attempt(self._format.read(self._tape, self._calls), past)
