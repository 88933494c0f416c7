"""What a request says its text must match, as a Constraint. Its size is checked here, its meaning in the worker."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from lmx.http.errors import ApiError
from lmx.http.fields import convert
from lmx.http.strict import open_object
from lmx.machines import limits
from lmx.machines.types import Constraint, RefusalKind

Name = Annotated[str, Meta(min_length=1, max_length=64, pattern="^[a-zA-Z0-9_-]+$")]


class JsonSchema(Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None
    """A schema is always obeyed; this one must be closed, too: its objects have no additional properties."""


class TextFormat(Struct, frozen=True, forbid_unknown_fields=True, tag="text"):
    pass


class ObjectFormat(Struct, frozen=True, forbid_unknown_fields=True, tag="json_object"):
    pass


class SchemaFormat(Struct, frozen=True, forbid_unknown_fields=True, tag="json_schema"):
    json_schema: JsonSchema


class Lark(Struct, frozen=True, forbid_unknown_fields=True, tag="lark"):
    text: str


class Gbnf(Struct, frozen=True, forbid_unknown_fields=True, tag="gbnf"):
    text: str


class Wanted(Struct, frozen=True):
    """The four fields; at most one of them may constrain."""

    response_format: TextFormat | ObjectFormat | SchemaFormat | None = None
    regex: str | None = None
    grammar: str | Lark | Gbnf | None = None
    choice: Annotated[list[str], Meta(min_length=1, max_length=limits.VALUES)] | None = None


TYPES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "response_format": {"type": ("json_object", "json_schema", "text")},
    "grammar": {"type": ("lark", "gbnf")},
}


def constraint_of(response_format: Any, regex: Any, grammar: Any, choice: Any) -> Constraint | None:
    """From values as JSON has them; None means not given. Raises ApiError 400 for what is wrong or too large."""
    fields = {"response_format": response_format, "regex": regex, "grammar": grammar, "choice": choice}
    wanted = [_read(name, value) for name, value in fields.items() if value is not None]
    found = [(name, constraint) for name, constraint in wanted if constraint is not None]
    if len(found) > 1:
        text = f"Only one of {', '.join(repr(name) for name, _ in found)} can be given."
        raise ApiError(400, text, "invalid_value", found[1][0])
    return found[0][1] if found else None


def _read(name: str, value: Any) -> tuple[str, Constraint | None]:
    """A field in it that is null is not given, as everywhere."""
    if isinstance(value, dict):
        value = {field: one for field, one in value.items() if one is not None}
    wanted = convert({name: value}, Wanted, TYPES.get(name, {}), frozenset())
    try:
        return name, _constraint(wanted)
    except limits.LimitError as error:
        raise ApiError(400, f"Invalid '{name}': {error}", RefusalKind.INVALID_CONSTRAINT.value, name) from error


def _constraint(wanted: Wanted) -> Constraint | None:
    """Of the one field that is given."""
    match wanted:
        case Wanted(response_format=ObjectFormat()):
            return Constraint("json_object")
        case Wanted(response_format=SchemaFormat(wanted_schema)):
            return _of_schema(wanted_schema)
        case Wanted(regex=str(pattern)):
            limits.check_pattern(pattern)
            return Constraint("regex", pattern)
        case Wanted(choice=list(options)):
            limits.check_choice(options)
            return Constraint("choice", msgspec.json.encode(options).decode())
        case Wanted(grammar=str(text)) if "::=" not in text:
            return _grammar(Lark(text))
        case Wanted(grammar=str(text)):
            return _grammar(Gbnf(text))
        case Wanted(grammar=Lark() | Gbnf() as grammar):
            return _grammar(grammar)
    return None


def _of_schema(wanted: JsonSchema) -> Constraint:
    limits.check_schema(wanted.schema)
    if wanted.strict and (fault := open_object(wanted.schema)):
        text = f"Invalid schema for response_format '{wanted.name}': {fault}"
        raise ApiError(400, text, None, "response_format")
    return Constraint("json_schema", msgspec.json.encode(wanted.schema).decode())


def _grammar(grammar: Lark | Gbnf) -> Constraint:
    if isinstance(grammar, Gbnf):
        limits.check_gbnf(grammar.text)
        return Constraint("gbnf", grammar.text)
    limits.check_lark(grammar.text)
    return Constraint("lark", grammar.text)
