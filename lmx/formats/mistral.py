"""Mistral: [TOOL_CALLS]NAME[ARGS]{…} with or without [CALL_ID]…, and before that [TOOL_CALLS][{…}, …]."""

import re
from collections.abc import Sequence

from lmx.formats import grammar, json_call, json_text
from lmx.formats.base import Calls, Format, Function
from lmx.formats.tape import Malformed, Reading, Tape

OPEN, ID, ARGUMENTS = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Mistral(Format):
    name = "mistral"
    marks = (OPEN, ID, ARGUMENTS)
    begins = (OPEN,)

    def recognised(self, template: str) -> bool:
        return OPEN in template and ARGUMENTS in template

    def read(self, tape: Tape, calls: Calls) -> Reading[None]:
        yield from tape.expect(OPEN)
        yield from tape.blank()
        if (yield from tape.peek()) == "[":
            yield from _listed(tape, calls)
        else:
            yield from _named(tape, calls)

    def grammar(self, functions: Sequence[Function], *, parallel: bool) -> str:
        rules = [
            f"{grammar.literal(OPEN + name)} {self._between()} {schema}" for name, schema in grammar.schemas(functions)
        ]
        return grammar.several(rules, parallel=parallel)

    def _between(self) -> str:
        """What is between name and arguments, in Lark."""
        return grammar.literal(ARGUMENTS)


class MistralIds(Mistral):
    name = "mistral_ids"

    def recognised(self, template: str) -> bool:
        return OPEN in template and ID in template

    def _between(self) -> str:
        return f"{grammar.literal(ID)} /[a-zA-Z0-9]{{9}}/ {grammar.literal(ARGUMENTS)}"


class MistralList(Mistral):
    name = "mistral_list"

    def recognised(self, template: str) -> bool:
        return OPEN in template

    def grammar(self, functions: Sequence[Function], *, parallel: bool) -> str:
        rules = [
            grammar.literal(f'{{"name": {grammar.quoted(name)}, "arguments": ') + f' {schema} "}}"'
            for name, schema in grammar.schemas(functions)
        ]
        return grammar.several(rules, parallel=parallel, between=", ", before=OPEN + "[", after="]")


def _listed(tape: Tape, calls: Calls) -> Reading[None]:
    yield from tape.expect("[")
    mark = ","
    while mark == ",":
        yield from tape.blank()
        yield from json_call.read(tape, calls)
        yield from tape.blank()
        mark = yield from tape.expect(",", "]")
    tape.tell()


def _named(tape: Tape, calls: Calls) -> Reading[None]:
    """The mark is written once for all calls, or for each."""
    yield from _one(tape, calls)
    yield from tape.blank()
    while (yield from calls.comes()):
        yield from _one(tape, calls)
        yield from tape.blank()
    tape.at = tape.told


def _one(tape: Tape, calls: Calls) -> Reading[None]:
    name = yield from calls.name()
    id = ""
    yield from tape.blank()
    mark = yield from tape.expect(ID, ARGUMENTS, "{")
    if mark == ID:
        id, _ = yield from tape.until(ARGUMENTS, most=64)
        if not _ID.fullmatch(id):
            raise Malformed
    if mark == "{":
        tape.at -= 1
    yield calls.begin(name, id)
    yield from json_text.stream(tape, calls)
    yield calls.end()
