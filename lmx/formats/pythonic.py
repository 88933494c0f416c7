"""Llama 3.2 and 4, LFM2: [f(a=1, b="x"), g()], alone or between marks."""

import re
from collections.abc import Sequence
from typing import ClassVar

from lmx.formats import grammar, values
from lmx.formats.base import Calls, Format, Function
from lmx.formats.tape import Malformed, Reading, Tape

_STEPS = {
    "": re.compile(r"""[^"'\[\]{}(),]+|["'\[\]{}(),]"""),
    '"': re.compile(r'[^"\\]+|\\.|"', re.DOTALL),
    "'": re.compile(r"[^'\\]+|\\.|'", re.DOTALL),
}
"""Pieces of a value, outside of strings and within."""
_KEY = re.compile(r"[A-Za-z_]\w*", re.ASCII)

_LONGEST = 200
"""Characters of an argument's name."""


class Pythonic(Format):
    name = "pythonic"
    around: ClassVar[tuple[str, str]] = ("<|python_start|>", "<|python_end|>")
    marks = around
    begins = (around[0],)
    leads = True

    def recognised(self, template: str) -> bool:
        return self.around[0] in template or "[func_name1(" in template

    def read(self, tape: Tape, calls: Calls) -> Reading[None]:
        yield from tape.maybe(self.around[0])
        yield from tape.blank()
        yield from tape.expect("[")
        yield from tape.blank()
        while True:
            yield from _call(tape, calls)
            yield from tape.blank()
            if (yield from tape.expect(",", "]")) == "]":
                break
            yield from tape.blank()
        tape.tell()
        yield from tape.close(self.around[1])

    def grammar(self, functions: Sequence[Function], *, parallel: bool) -> str:
        rules, more = list[str](), ""
        for number, function in enumerate(functions):
            root = grammar.parameters(function)
            listed = [
                (f"{grammar.literal(key + '=')} {grammar.inline(grammar.rooted(schema, root))}", required)
                for key, schema, required in grammar.members(function)
            ]
            first, lines = grammar.listed(f"calls_{number}", listed, ", ")
            rules.append(f'{grammar.literal(function["name"] + "(")} {first} ")"')
            more += lines
        begin, end = self._written
        return grammar.several(rules, parallel=parallel, between=", ", before=begin, after=end) + more

    @property
    def _written(self) -> tuple[str, str]:
        return "[", "]"


class Lfm2(Pythonic):
    name = "lfm2"
    around = ("<|tool_call_start|>", "<|tool_call_end|>")
    marks = around
    begins = (around[0],)
    leads = False

    def recognised(self, template: str) -> bool:
        return self.around[0] in template or "<|tool_list_start|>" in template

    @property
    def _written(self) -> tuple[str, str]:
        return self.around[0] + "[", "]" + self.around[1]


def _call(tape: Tape, calls: Calls) -> Reading[None]:
    """Told when it is complete."""
    name = yield from calls.name()
    yield from tape.expect("(")
    schema = grammar.parameters(calls.function(name))
    members: list[str] = []
    yield from tape.blank()
    last = bool((yield from tape.maybe(")")))
    while not last:
        key = yield from _key(tape)
        text, mark = yield from _value(tape)
        kinds = values.types(values.properties(schema).get(key, True), schema)
        members.append(f"{values.dumps(key)}: {_json(text, kinds)}")
        last = mark == ")"
        yield from tape.blank()
        last = last or bool((yield from tape.maybe(")")))
    yield calls.begin(name)
    yield calls.arguments("{" + ", ".join(members) + "}")
    yield calls.end()


def _key(tape: Tape) -> Reading[str]:
    key, _ = yield from tape.until("=", most=_LONGEST)
    if not _KEY.fullmatch(key.strip()):
        raise Malformed
    return key.strip()


def _value(tape: Tape) -> Reading[tuple[str, str]]:
    """The text up to the comma or bracket that ends it, and that."""
    text, quote, depth = "", "", 0
    while True:
        step = _STEPS[quote].match(tape.text, tape.at)
        if step is None:
            yield from tape.more()
            continue
        sign = step[0]
        tape.at = step.end()
        if not quote and depth == 0 and sign in (",", ")"):
            return text.strip(), sign
        text += sign
        if quote:
            quote = "" if sign == quote else quote
        elif sign in ('"', "'"):
            quote = sign
        else:
            depth += (sign in ("[", "{", "(")) - (sign in ("]", "}", ")"))
        if depth < 0:
            raise Malformed


def _json(text: str, kinds: frozenset[str]) -> str:
    """A value that is no literal is a string, where the schema has one."""
    try:
        return values.checked(values.python_to_json(text))
    except Malformed:
        if "string" not in kinds or text[:1] in "\"'[{":
            raise
        return values.dumps(text)
