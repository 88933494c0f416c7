"""Pieces of Lark as llguidance knows it."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from lmx.formats import values
from lmx.formats.base import Function, Unforceable

_DEPENDENT = ("anyOf", "oneOf", "allOf", "not", "if", "dependentRequired", "dependentSchemas", "minProperties",
              "maxProperties", "propertyNames", "const", "enum")  # fmt: skip


def literal(text: str) -> str:
    """This very text."""
    return json.dumps(text, ensure_ascii=False)


def quoted(text: str) -> str:
    """As a JSON string."""
    return json.dumps(text, ensure_ascii=False)


def parameters(function: Function) -> dict[str, Any]:
    """The schema of a function's arguments: always that of an object."""
    schema = function.get("parameters")
    if not schema or not isinstance(schema, dict):
        return {"type": "object", "properties": {}, "additionalProperties": False}
    return {"type": "object", **schema}


def members(function: Function) -> list[tuple[str, Any, bool]]:
    """Name, schema and necessity of each argument. Raises Unforceable where they depend on each other."""
    schema = parameters(function)
    target = values.resolved(schema, schema)
    schema = {**schema, **(target if isinstance(target, dict) else {"not": {}})}
    if found := [word for word in _DEPENDENT if word in schema]:
        raise Unforceable(f"'{found[0]}' of the parameters of '{function['name']}' cannot be held in this format.")
    known, required = values.properties(schema), schema.get("required")
    needed = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
    names = [*known, *(name for name in needed if name not in known)]
    return [(name, known.get(name, {}), name in needed) for name in names]


def rooted(schema: Any, root: dict[str, Any]) -> Any:
    """A part of a schema that stands alone: with the definitions that it may refer to."""
    definitions = {word: root[word] for word in ("$defs", "definitions") if word in root}
    return {**definitions, **schema} if isinstance(schema, dict) else schema


def without(mark: str) -> str:
    """Any text in which the mark is not, for a terminal."""
    return f"/(?s:.*)/ & ~/(?s:.*){pattern(mark)}(?s:.*)/"


def pattern(text: str) -> str:
    """A regular expression of this very text."""
    return "".join(one if one.isalnum() else f"\\x{{{ord(one):x}}}" for one in text)


def inline(schema: Any) -> str:
    """JSON held to the schema."""
    if not isinstance(schema, dict):
        schema = {} if schema is True else {"not": {}}
    return "%json " + json.dumps(schema)


def schemas(functions: Sequence[Function]) -> Iterator[tuple[str, str]]:
    """Each function's name, and JSON held to its schema."""
    for function in functions:
        yield str(function["name"]), inline(parameters(function))


def several(rules: Sequence[str], *, parallel: bool, between: str = "", before: str = "", after: str = "") -> str:
    """`calls` from one rule for each function. Raises Unforceable without functions."""
    if not rules:
        raise Unforceable("There is no function that could be called.")
    one = "calls_one: " + " | ".join(f"calls_{number}" for number in range(len(rules)))
    each = [f"calls_{number}: {rule}" for number, rule in enumerate(rules)]
    separator = f"{literal(between)} " if between else ""
    parts = [literal(before)] if before else []
    parts += [f"calls_one ({separator}calls_one)*" if parallel else "calls_one"]
    # A line end by itself: the lexer is greedy, and one may also come between two calls.
    parts += map(literal, after.splitlines(keepends=True))
    return "\n".join(["calls: " + " ".join(parts), one, *each]) + "\n"


def listed(name: str, members: Sequence[tuple[str, bool]], between: str) -> tuple[str, str]:
    """Members in their order, those that are not necessary left out at will: an expression, and the rules it needs.

    Two rules for each place: nothing was written before it, or something.
    """
    if not members:
        return "", ""
    lines = ""
    for place, (member, required) in enumerate(members):
        follow = f" {name}_q{place + 1}" if place + 1 < len(members) else ""
        skip = f"{name}_p{place + 1}" if place + 1 < len(members) else '""'
        lines += f"{name}_p{place}: {member}{follow}{'' if required else f' | {skip}'}\n"
        if place:
            one = f"{literal(between)} {member}"
            lines += f"{name}_q{place}: {one if required else f'({one})?'}{follow}\n"
    return f"{name}_p0", lines
