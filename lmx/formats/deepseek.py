"""DeepSeek V3 and R1, whose arguments stand in a fence, and V3.1, whose do not."""

from collections.abc import Sequence

from lmx.formats import grammar, json_text
from lmx.formats.base import Calls, Format, Function
from lmx.formats.tape import Reading, Tape

SECTION, SECTION_END = "<\uff5ctool▁calls▁begin\uff5c>", "<\uff5ctool▁calls▁end\uff5c>"
CALL, SEPARATOR, CALL_END = "<\uff5ctool▁call▁begin\uff5c>", "<\uff5ctool▁sep\uff5c>", "<\uff5ctool▁call▁end\uff5c>"
FENCE, FENCE_END = "```json", "```"


class DeepSeek(Format):
    name = "deepseek_v31"
    marks = (SECTION, CALL, SEPARATOR, CALL_END, SECTION_END)
    begins = (SECTION, CALL)
    ends = (CALL_END,)
    between = ""
    """Of two calls."""

    def recognised(self, template: str) -> bool:
        return CALL in template

    def read(self, tape: Tape, calls: Calls) -> Reading[None]:
        if (yield from tape.expect(SECTION, CALL)) == SECTION:
            yield from tape.blank()
            yield from tape.expect(CALL)
        yield from self._call(tape, calls)
        yield from tape.close(CALL_END)
        yield from tape.close(SECTION_END)

    def _call(self, tape: Tape, calls: Calls) -> Reading[None]:
        name = yield from calls.name()
        yield from tape.expect(SEPARATOR)
        yield calls.begin(name)
        yield from json_text.stream(tape, calls)
        yield calls.end()

    def grammar(self, functions: Sequence[Function], *, parallel: bool) -> str:
        rules = [
            f"{grammar.literal(CALL)} {self._written(name, schema)} {grammar.literal(CALL_END)}"
            for name, schema in grammar.schemas(functions)
        ]
        return grammar.several(rules, parallel=parallel, between=self.between, before=SECTION, after=SECTION_END)

    def _written(self, name: str, schema: str) -> str:
        return f"{grammar.literal(name + SEPARATOR)} {schema}"


class DeepSeekFenced(DeepSeek):
    name = "deepseek_v3"
    between = "\n"

    def recognised(self, template: str) -> bool:
        return CALL in template and FENCE in template

    def _call(self, tape: Tape, calls: Calls) -> Reading[None]:
        yield from tape.expect("function" + SEPARATOR)
        name = yield from calls.name()
        yield from tape.blank()
        yield from tape.expect(FENCE)
        yield from tape.blank()
        yield calls.begin(name)
        yield from json_text.stream(tape, calls)
        yield calls.end()
        yield from tape.close(FENCE_END)

    def _written(self, name: str, schema: str) -> str:
        begin, end = f"function{SEPARATOR}{name}\n{FENCE}\n", f"\n{FENCE_END}"
        return f"{grammar.literal(begin)} {schema} {grammar.literal(end)}"
