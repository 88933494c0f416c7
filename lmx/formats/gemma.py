"""Gemma: call:NAME{key:value,…}, with bare keys and marks instead of quotes around strings."""

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from lmx.formats import gemma_grammar, grammar, json_text, values
from lmx.formats.base import Calls, Format, Function
from lmx.formats.tape import Malformed, Reading, Tape

_WORD = re.compile(r"""("(?:[^"\\]|\\.)*")|([A-Za-z_][\w.-]*)(\s*:)?""", re.ASCII)
_NAMES = ("true", "false", "null")


class Gemma4(Format):
    name = "gemma4"
    around: ClassVar[tuple[str, str]] = ("<|tool_call>", "<tool_call|>")
    quote: ClassVar[str] = '<|"|>'
    marks = (*around, quote)
    begins = (around[0],)
    ends = (around[1],)

    def recognised(self, template: str) -> bool:
        return self.around[0] in template

    def read(self, tape: Tape, calls: Calls) -> Reading[None]:
        """A call is told when it is complete."""
        yield from tape.expect(self.around[0])
        yield from tape.blank()
        yield from tape.expect("call:")
        name = yield from calls.name()
        yield from tape.blank()
        if (yield from tape.peek()) != "{":
            raise Malformed
        text = yield from self._body(tape)
        schema = grammar.parameters(calls.function(name))
        yield calls.begin(name)
        yield calls.arguments(_typed(text, schema))
        yield calls.end()

    def _body(self, tape: Tape) -> Reading[str]:
        """Up to the mark of the end, which is none within a string, as JSON."""
        pieces: list[str] = []
        while True:
            text, mark = yield from tape.until(self.quote, self.around[1])
            pieces.append(_WORD.sub(_quoted, text))
            if mark == self.around[1]:
                return "".join(pieces).strip()
            text, _ = yield from tape.until(self.quote)
            pieces.append(values.dumps(text))

    def grammar(self, functions: Sequence[Function], *, parallel: bool) -> str:
        rules, more = list[str](), ""
        for number, function in enumerate(functions):
            writer = gemma_grammar.Writer(f"calls_{number}", self.quote, grammar.parameters(function))
            rule = writer.object(grammar.members(function))
            begin, end = self.around
            rules.append(f"{grammar.literal(begin + 'call:' + function['name'])} {rule} {grammar.literal(end)}")
            more += writer.lines
        return grammar.several(rules, parallel=parallel) + more


class FunctionGemma(Gemma4):
    name = "function_gemma"
    around = ("<start_function_call>", "<end_function_call>")
    quote = "<escape>"
    marks = (*around, quote)
    begins = (around[0],)
    ends = (around[1],)


def _quoted(word: re.Match[str]) -> str:
    """A key, or a value that is no JSON by itself, in quotes."""
    string, name, colon = word.groups()
    if string is not None:
        return str(string)
    return name if name in _NAMES and not colon else f'"{name}"{colon or ""}'


def _typed(text: str, schema: dict[str, Any]) -> str:
    """The arguments, with those in quotes whose schema says that they are strings. Raises Malformed."""
    parsed = json_text.parsed(values.checked(text))
    if not isinstance(parsed, dict):
        raise Malformed
    known = values.properties(schema)
    return values.dumps({key: _string(value, values.types(known.get(key), schema)) for key, value in parsed.items()})


def _string(value: Any, kinds: frozenset[str]) -> Any:
    return values.dumps(value) if kinds == {"string"} and isinstance(value, int | float) else value
