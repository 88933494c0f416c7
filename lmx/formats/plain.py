"""Grammars for values that are written as plain text up to a mark."""

import re
from typing import Any

from lmx.formats import grammar, values
from lmx.formats.base import Unforceable

_CHOICES = ("anyOf", "oneOf")
_MANY = 100
_UNHELD = ("allOf", "not", "if")


class Plain:
    """One value, with the mark after it: strings as they are, anything else as JSON."""

    def __init__(self, name: str, end: str, root: dict[str, Any]) -> None:
        """`name` is unique in the grammar; `root` is what the value's schema may refer to."""
        self.terms: list[str] = []
        """Lines of Lark that its rule needs."""
        self._name, self._end, self._root = name, end, root
        self._schemas = 0

    def rule(self, schema: values.Schema) -> str:
        """An expression of Lark. Raises Unforceable."""
        self._schemas += 1
        if self._schemas > _MANY:
            raise Unforceable("A schema with so many choices, or within itself, cannot be held in this format.")
        schema = values.resolved(schema, self._root)
        if isinstance(schema, dict):
            for word in _CHOICES:
                if isinstance(members := schema.get(word), list):
                    return "(" + " | ".join(self.rule(member) for member in members) + ")"
        kinds = values.types(schema, self._root)
        if "string" not in kinds:
            return f"{grammar.inline(grammar.rooted(schema, self._root))} {grammar.literal(self._end)}"
        if any(word in schema for word in _UNHELD):
            raise Unforceable("A string under 'allOf', 'not' or 'if' cannot be held to its schema in this format.")
        return self._string(schema)

    def _string(self, schema: dict[str, Any]) -> str:
        options = [schema["const"]] if "const" in schema else schema.get("enum")
        if isinstance(options, list):
            texts = [option if isinstance(option, str) else values.dumps(option) for option in options]
            return "(" + " | ".join(grammar.literal(text + self._end) for text in texts) + ")"
        term = f"CALLS_T{self._name}_{len(self.terms)}"
        end, inner = grammar.literal(self._end), grammar.without(self._end.strip("\n"))
        self.terms += [f"{term}: {term}_V {end}", f"{term}_V: " + " & ".join([inner, *_bounds(schema)])]
        return term


def _bounds(schema: dict[str, Any]) -> list[str]:
    """Patterns that the text must match besides."""
    low, high, pattern = schema.get("minLength", 0), schema.get("maxLength"), schema.get("pattern")
    bounds = [f"/(?s:.{{{low},{'' if high is None else high}}})/"] if low or high is not None else []
    if isinstance(pattern, str):
        ended = re.search(r"(?<!\\)\$\Z", pattern) is not None
        begin, end = "" if pattern.startswith("^") else "(?s:.*)", "" if ended else "(?s:.*)"
        inner = pattern.removeprefix("^")[: -1 if ended else None]
        bounds.append("/" + begin + "(" + re.sub(r"(?<!\\)((?:\\\\)*)/", r"\1\\/", inner) + ")" + end + "/")
    return bounds
