"""Kimi K2: each call has an id of the model's own, functions.NAME:NUMBER, within a section of calls."""

import re
from collections.abc import Sequence

from lmx.formats import grammar, json_text
from lmx.formats.base import Calls, Format, Function
from lmx.formats.tape import Malformed, Reading, Tape

SECTION, SECTION_END = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"
CALL, ARGUMENTS, CALL_END = "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"
_NUMBER = re.compile(r"(:\d{1,9})?\s*")


class Kimi(Format):
    name = "kimi_k2"
    marks = (SECTION, CALL, ARGUMENTS, CALL_END, SECTION_END)
    begins = (SECTION, CALL)
    ends = (CALL_END,)

    def recognised(self, template: str) -> bool:
        return SECTION in template

    def read(self, tape: Tape, calls: Calls) -> Reading[None]:
        if (yield from tape.expect(SECTION, CALL)) == SECTION:
            yield from tape.blank()
            yield from tape.expect(CALL)
        yield from _call(tape, calls)
        yield from tape.close(SECTION_END)

    def grammar(self, functions: Sequence[Function], *, parallel: bool) -> str:
        rules = [
            f"{grammar.literal(f'{CALL}functions.{name}:')} /[0-9]{{1,3}}/ {grammar.literal(ARGUMENTS)} {schema} "
            + grammar.literal(CALL_END)
            for name, schema in grammar.schemas(functions)
        ]
        return grammar.several(rules, parallel=parallel, before=SECTION, after=SECTION_END)


def _call(tape: Tape, calls: Calls) -> Reading[None]:
    yield from tape.blank()
    prefix = yield from tape.maybe("functions.")
    name = yield from calls.name()
    text, _ = yield from tape.until(ARGUMENTS, most=20)
    number = _NUMBER.fullmatch(text)
    if number is None:
        raise Malformed
    yield calls.begin(name, f"{prefix}{name}{number[1]}" if number[1] else "")
    yield from json_text.stream(tape, calls)
    yield calls.end()
    yield from tape.close(CALL_END)
