"""OpenAI's rule for strict schemas: every object says that it has no additional properties."""

from collections.abc import Iterator
from typing import Any

Place = tuple[str, ...]

MAPS = ("properties", "$defs", "definitions", "patternProperties")
LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
SINGLES = ("items", "not", "if", "then", "else")


def open_object(schema: dict[str, Any]) -> str | None:
    """What is wrong with the first object that is left open, in OpenAI's words; None when there is none.

    `schema` is within the limits, so that it is not too deep.
    """
    for place, part in _parts(schema, ()):
        if _is_object(part) and part.get("additionalProperties") is not False:
            context = "(" + ", ".join(map(repr, place)) + ")"
            return f"In context={context}, 'additionalProperties' is required to be supplied and to be false."
    return None


def _is_object(part: dict[str, Any]) -> bool:
    kind = part.get("type")
    return kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in part


def _parts(part: dict[str, Any], place: Place) -> Iterator[tuple[Place, dict[str, Any]]]:
    """The schema and those in it, each with where it is."""
    yield place, part
    for keyword, index, inner in _inner(part):
        if isinstance(inner, dict):
            yield from _parts(inner, (*place, keyword, *index))


def _inner(part: dict[str, Any]) -> Iterator[tuple[str, Place, Any]]:
    for keyword in MAPS:
        if isinstance(named := part.get(keyword), dict):
            yield from ((keyword, (name,), inner) for name, inner in named.items())
    for keyword in LISTS:
        if isinstance(listed := part.get(keyword), list):
            yield from ((keyword, (str(index),), inner) for index, inner in enumerate(listed))
    for keyword in SINGLES:
        yield keyword, (), part.get(keyword)
