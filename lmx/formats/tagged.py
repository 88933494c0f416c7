"""Formats with a tag around each argument: Qwen3-Coder, MiniMax M2, GLM 4.5."""

from collections.abc import Sequence
from typing import ClassVar

from lmx.formats import grammar, plain, values
from lmx.formats.base import Calls, Format, Function
from lmx.formats.tape import Reading, Tape, held

_LONGEST = 200
"""Characters of an argument's name."""


class Tagged(Format):
    """What stands between name and values; arguments that are strings are told as they come."""

    section: ClassVar[tuple[str, str]] = ("", "")
    """Around calls; it is often forgotten."""
    shared: ClassVar[bool] = False
    """One section holds all calls."""
    call: ClassVar[str]
    name_end: ClassVar[str] = ""
    call_end: ClassVar[str]
    key: ClassVar[str]
    key_end: ClassVar[tuple[str, ...]]
    """Between an argument's name and its value; white space may be between them."""
    value_end: ClassVar[str]
    pad: ClassVar[str] = ""
    """Around each value, and no part of it."""

    def read(self, tape: Tape, calls: Calls) -> Reading[None]:
        if (yield from tape.expect(*self.begins)) != self.call:
            yield from tape.blank()
            yield from tape.expect(self.call)
        name = yield from calls.name()
        if self.name_end:
            yield from tape.expect(self.name_end)
        yield from self._arguments(tape, calls, name)
        if self.section[1]:
            yield from tape.close(self.section[1])

    def _arguments(self, tape: Tape, calls: Calls, name: str) -> Reading[None]:
        mark = yield from self._next(tape)
        tape.at -= len(mark)
        yield calls.begin(name)
        tape.at += len(mark)
        schema = grammar.parameters(calls.function(name))
        before = "{"
        while mark == self.key:
            key = yield from self._key(tape)
            kinds = values.types(values.properties(schema).get(key, True), schema)
            yield from self._value(tape, calls, f"{before}{values.dumps(key)}: ", kinds)
            before = ", "
            mark = yield from self._next(tape)
        yield calls.arguments("{}" if before == "{" else "}")
        yield calls.end()

    def _next(self, tape: Tape) -> Reading[str]:
        yield from tape.blank()
        return (yield from tape.expect(self.key, self.call_end))

    def _key(self, tape: Tape) -> Reading[str]:
        key, _ = yield from tape.until(self.key_end[0], most=_LONGEST)
        for part in self.key_end[1:]:
            yield from tape.blank()
            yield from tape.expect(part)
        if self.pad:
            yield from tape.maybe(self.pad)
        return key.strip()

    def _value(self, tape: Tape, calls: Calls, before: str, kinds: frozenset[str]) -> Reading[None]:
        ends = (self.pad + self.value_end, self.value_end) if self.pad else (self.value_end,)
        if kinds != {"string"}:
            text, _ = yield from tape.until(*ends)
            yield calls.arguments(before + values.written(text, kinds))
            return
        yield calls.arguments(before + '"')
        while not any(tape.text.startswith(end, tape.at) for end in ends):
            places = [place for end in ends if (place := tape.text.find(end, tape.at)) >= 0]
            stop = min(places, default=len(tape.text) - held(tape.text[tape.at :], ends))
            text, tape.at = tape.text[tape.at : stop], stop
            if text:
                yield calls.arguments(values.escaped(text))
            elif not places:
                yield from tape.more()
        yield from tape.expect(*ends)
        yield calls.arguments('"')

    def grammar(self, functions: Sequence[Function], *, parallel: bool) -> str:
        rules, terms = list[str](), list[str]()
        for number, function in enumerate(functions):
            parts = [grammar.literal(f"{self.call}{function['name']}{self.name_end}"), '"\\n"?']
            for place, (key, schema, required) in enumerate(grammar.members(function)):
                value = plain.Plain(f"{number}_{place}", self.pad + self.value_end, grammar.parameters(function))
                one = f'{self._opening(key)} {value.rule(schema)} "\\n"?'
                parts.append(one if required else f"({one})?")
                terms += value.terms
            rules.append(" ".join([*parts, grammar.literal(self.call_end)]))
        return self._whole(rules, parallel) + "".join(term + "\n" for term in terms)

    def _opening(self, key: str) -> str:
        """Of an argument."""
        parts = [grammar.literal(self.key + key + self.key_end[0]), *map(grammar.literal, self.key_end[1:])]
        return ' "\\n"? '.join(parts) + (f" {grammar.literal(self.pad)}" if self.pad else "")

    def _whole(self, rules: list[str], parallel: bool) -> str:
        """Each call in a section of its own, or all in one."""
        begin, end = self.section
        if self.shared:
            return grammar.several(rules, parallel=parallel, between="\n", before=f"{begin}\n", after=f"\n{end}")
        around = (f'{grammar.literal(begin)} "\\n"? ', f' "\\n"? {grammar.literal(end)}') if begin else ("", "")
        return grammar.several([rule.join(around) for rule in rules], parallel=parallel, between="\n")


class QwenCoder(Tagged):
    """<tool_call><function=NAME><parameter=KEY>value</parameter></function></tool_call>"""

    name = "qwen3_coder"
    section = ("<tool_call>", "</tool_call>")
    call, name_end, call_end = "<function=", ">", "</function>"
    key, key_end, value_end, pad = "<parameter=", (">",), "</parameter>", "\n"
    marks = (*section, call, call_end, key, value_end)
    begins = (section[0], call)
    ends = (section[1],)

    def recognised(self, template: str) -> bool:
        return self.call in template and self.key in template


class MiniMax(Tagged):
    """<minimax:tool_call><invoke name="NAME"><parameter name="KEY">value</parameter></invoke></minimax:tool_call>"""

    name = "minimax_m2"
    section, shared = ("<minimax:tool_call>", "</minimax:tool_call>"), True
    call, name_end, call_end = '<invoke name="', '">', "</invoke>"
    key, key_end, value_end = '<parameter name="', ('">',), "</parameter>"
    marks = (*section, "<invoke", call_end, "<parameter", value_end)
    begins = (section[0], call)
    ends = (call_end,)

    def recognised(self, template: str) -> bool:
        return "minimax:tool_call" in template


class Glm(Tagged):
    """<tool_call>NAME<arg_key>key</arg_key><arg_value>value</arg_value></tool_call>"""

    name = "glm45"
    call, call_end = "<tool_call>", "</tool_call>"
    key, key_end, value_end = "<arg_key>", ("</arg_key>", "<arg_value>"), "</arg_value>"
    marks = (call, call_end, key, *key_end, value_end)
    begins = (call,)
    ends = (call_end,)

    def recognised(self, template: str) -> bool:
        return self.key in template
