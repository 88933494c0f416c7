"""Hermes and Qwen: <tool_call>{"name": …, "arguments": {…}}</tool_call>."""

from collections.abc import Sequence

from lmx.formats import grammar, json_call
from lmx.formats.base import Calls, Format, Function
from lmx.formats.tape import Reading, Tape

OPEN, CLOSE = "<tool_call>", "</tool_call>"


class Hermes(Format):
    name = "hermes"
    marks = (OPEN, CLOSE)
    begins = (OPEN,)
    ends = (CLOSE,)

    def recognised(self, template: str) -> bool:
        return OPEN in template

    def read(self, tape: Tape, calls: Calls) -> Reading[None]:
        yield from tape.expect(OPEN)
        yield from tape.blank()
        yield from json_call.read(tape, calls)
        yield from tape.close(CLOSE)

    def grammar(self, functions: Sequence[Function], *, parallel: bool) -> str:
        rules = [
            f'{grammar.literal(OPEN)} "\\n"? '
            + grammar.literal(f'{{"name": {grammar.quoted(name)}, "arguments": ')
            + f' {schema} "}}" "\\n"? {grammar.literal(CLOSE)}'
            for name, schema in grammar.schemas(functions)
        ]
        return grammar.several(rules, parallel=parallel, between="\n")
