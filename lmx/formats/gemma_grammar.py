"""Grammars for values as Gemma writes them: nested as in JSON, with bare keys and its own quotes."""

from typing import Any

from lmx.formats import grammar, values
from lmx.formats.base import Function, Unforceable
from lmx.formats.plain import Plain

_DEPTH, _MANY = 16, 1000
_SCALARS = {"integer", "number", "boolean", "null"}


class Writer:
    """The values of one function."""

    def __init__(self, name: str, quote: str, root: dict[str, Any]) -> None:
        """`name` begins the names of its rules."""
        self.lines = ""
        self._name, self._quote, self._root = name, quote, root
        self._count = self._schemas = 0

    def object(self, members: list[tuple[str, Any, bool]], depth: int = 0) -> str:
        """An expression of Lark. Raises Unforceable."""
        self._count += 1
        name = f"{self._name}_{self._count}"
        listed = [
            (f"{grammar.literal(key + ':')} {self._value(schema, depth + 1)}", required)
            for key, schema, required in members
        ]
        first, lines = grammar.listed(name, listed, ",")
        self.lines += lines
        return f'"{{" {first} "}}"'

    def _value(self, schema: values.Schema, depth: int) -> str:
        schema = values.resolved(schema, self._root)
        self._schemas += 1
        if depth > _DEPTH or self._schemas > _MANY or not isinstance(schema, dict):
            raise Unforceable("A schema that is too large, holds itself or says nothing cannot be held in this format.")
        for word in ("anyOf", "oneOf"):
            if isinstance(members := schema.get(word), list):
                return "(" + " | ".join(self._value(member, depth + 1) for member in members) + ")"
        kinds = values.types(schema, self._root)
        if len(kinds) > 1:
            return "(" + " | ".join(self._value({**schema, "type": kind}, depth + 1) for kind in sorted(kinds)) + ")"
        return self._of(next(iter(kinds), ""), schema, depth)

    def _of(self, kind: str, schema: dict[str, Any], depth: int) -> str:
        if kind in _SCALARS:
            return grammar.inline(schema)
        if kind == "string":
            self._count += 1
            plain = Plain(f"{self._name.removeprefix('calls_')}_{self._count}", self._quote, self._root)
            rule = f"{grammar.literal(self._quote)} {plain.rule(schema)}"
            self.lines += "".join(term + "\n" for term in plain.terms)
            return rule
        if kind == "array" and "items" in schema and not {"prefixItems", "uniqueItems", "contains"} & set(schema):
            return self._array(self._value(schema["items"], depth + 1), schema)
        if kind == "object" and "properties" in schema:
            function: Function = {"name": "", "parameters": {**grammar.rooted({}, self._root), **schema}}
            return self.object(grammar.members(function), depth)
        raise Unforceable(f"A schema of the kind {kind or 'any'!r} cannot be held in this format.")

    def _array(self, item: str, schema: dict[str, Any]) -> str:
        low, high = schema.get("minItems", 0), schema.get("maxItems")
        if high == 0:
            return '"[" "]"'
        more = f"{{{max(low - 1, 0)},{'' if high is None else high - 1}}}"
        some = f'{item} ("," {item}){more}'
        return f'"[" {some} "]"' if low else f'"[" ({some})? "]"'
