"""What a whole answer must be: perhaps a thought first, then calls, or a text that matches something, or either."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from lmx.engine.constraint.source import source, spaced
from lmx.machines.types import Constraint

BLANK = r"/[ \n]{0,4}/"
"""What may come between a thought and what follows it."""
BRACKETS = "{["
"""What calls without a mark begin with."""


@dataclass(frozen=True)
class Thought:
    """`opened`: the text begins within it; else it may come. `then` is what follows before anything else does."""

    open: str
    close: str
    opened: bool = False
    then: str = ""


@dataclass(frozen=True)
class Form:
    """One of `calls` and `constraint` at least. With both, the text is one or the other.

    calls:  Lark with a rule `calls`; its calls begin with one of `begins`.
    when:   they come at once, or after any text: `freely`, with text between and behind them, or `last`.
    header: what the model writes before an answer that is no call.
    leads:  calls come without a mark, as the whole text: then a text that begins with a bracket is a call.
    """

    thought: Thought | None = None
    calls: str = ""
    begins: tuple[str, ...] = ()
    when: Literal["now", "freely", "last"] = "now"
    constraint: Constraint | None = None
    header: str = ""
    leads: bool = False

    @property
    def blamed(self) -> Constraint | None:
        """Whose fault it is when it cannot be compiled; None = the functions'."""
        return None if self.calls else self.constraint


def form_source(form: Form) -> str:
    """The grammar in llguidance's own form. Raises ConstraintError."""
    parts: list[dict[str, Any]] = [{"name": "form", "lark_grammar": "\n".join(_lark(form)) + "\n"}]
    if form.calls:
        parts.append({"name": "called", "lark_grammar": f"start: calls\n{spaced(form.calls)}"})
    if form.constraint is not None:
        (answer,) = json.loads(source(form.constraint))["grammars"]
        parts.append({**answer, "name": "answer"})
    return json.dumps({"grammars": parts})


def _lark(form: Form) -> Iterator[str]:
    thought = form.thought
    if thought is None:
        yield "start: body"
    else:
        first = "" if thought.opened else literal(thought.open)
        then = literal(thought.then) if thought.then else "blank"
        yield f"start: {'thought' if thought.opened else 'thought?'} body"
        yield f"thought: {first} thinking {then}"
        yield rf"thinking[lazy]: /(?s:.*){pattern(thought.close)}/"
        yield f"blank: {BLANK}"
    options = []
    if form.calls:
        options.append("called")
        yield from _called(form)
    if form.constraint is not None:
        options.append("answer")
        yield f"answer: {literal(form.header) if form.header else ''} @answer"
    yield f"body: {' | '.join(options)}"


def _called(form: Form) -> Iterator[str]:
    """Text between calls holds none of what calls begin with: only its beginnings, which are lexemes of their own."""
    if form.when == "now":
        yield "called: @called"
        return
    firsts = "".join(sorted({pattern(begin[0]) for begin in form.begins}))
    if form.leads:
        yield "called: @called | free"
        yield "free: BLANKS? ((FIRST | BEGUN) (PLAIN | BEGUN)*)?"
        yield r"BLANKS: /\s+/"
        yield rf"FIRST: /[^\s{pattern(BRACKETS)}{firsts}]/"
    else:
        yield "called: free (@called free)*" if form.when == "freely" else "called: free @called?"
        yield "free: (PLAIN | BEGUN)*"
    yield f"PLAIN: /[^{firsts}]+/"
    yield f"BEGUN: /{'|'.join(pattern(begin[:size]) for begin in form.begins for size in range(1, len(begin)))}/"


def literal(text: str) -> str:
    """A text as Lark writes it."""
    return json.dumps(text, ensure_ascii=False)


def pattern(text: str) -> str:
    """A regular expression for this very text, between slashes."""
    return re.sub(r"[^0-9A-Za-z]", lambda found: f"\\x{{{ord(found[0]):x}}}", text)
