"""Llama 3: the whole answer is {"name": …, "parameters": {…}}, several with semicolons between them."""

from collections.abc import Sequence

from lmx.formats import grammar, json_call
from lmx.formats.base import Calls, Format, Function
from lmx.formats.tape import Malformed, Reading, Tape

TAG = "<|python_tag|>"


class Llama(Format):
    name = "llama3"
    marks = (TAG,)
    begins = (TAG,)
    leads = True

    def recognised(self, template: str) -> bool:
        return '"parameters": ' in template and (TAG in template or "<|eot_id|>" in template)

    def read(self, tape: Tape, calls: Calls) -> Reading[None]:
        yield from tape.maybe(TAG)
        yield from tape.blank()
        yield from json_call.read(tape, calls, first=("name", "type"))
        while True:
            yield from tape.blank()
            if not (yield from tape.maybe(";")):
                raise Malformed
            yield from tape.blank()
            yield from json_call.read(tape, calls, first=("name", "type"))

    def grammar(self, functions: Sequence[Function], *, parallel: bool) -> str:
        rules = [
            grammar.literal(f'{{"name": {grammar.quoted(name)}, "parameters": ') + f' {schema} "}}"'
            for name, schema in grammar.schemas(functions)
        ]
        return grammar.several(rules, parallel=parallel, between="; ")
