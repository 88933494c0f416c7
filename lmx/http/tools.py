"""Functions that a model may call, the same for every route: what its template reads, and what may be called."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple
from uuid import uuid4

from msgspec import Struct

from lmx.http import fields
from lmx.http.errors import ApiError, shown
from lmx.http.strict import open_object
from lmx.machines import limits
from lmx.machines.speech import Calling

MOST = 128
"""Functions of one request, and calls of one message."""
NAME = "^[a-zA-Z0-9_-]+$"
NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}
KEYWORDS = frozenset({"type", "$ref", "anyOf", "oneOf", "allOf", "not", "if", "enum", "const"})
"""With none of them a schema does not say what it describes, and that of a function means an object."""

Mode = Literal["none", "auto", "required"]
ToolTemplate = dict[str, Any]
"""As chat templates read a tool, and `Chat.tools` holds it."""


class Function(Struct, frozen=True, forbid_unknown_fields=True):
    """Of OpenAI's `tools`; other routes make one of what they are given."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """A JSON schema; None = it takes none."""
    strict: bool | None = None
    """Calls of it obey the schema also where the model chooses to call."""


class Rules(NamedTuple):
    """What an API allows; the defaults are OpenAI's."""

    name: int = 64
    """Characters."""
    description: int | None = 1024
    """Characters; None = any number."""
    parameters: str = "parameters"
    """What the schema's field is called."""
    closed: bool = True
    """Objects of strict functions must say that they have no additional properties."""
    most: int = MOST
    """Functions of one request."""


class Choice(NamedTuple):
    """What `tool_choice` says."""

    mode: Mode = "auto"
    only: tuple[str, ...] = ()
    """Names; () = all."""
    parallel: bool = True


OPENAI = Rules()


def templates(
    functions: Sequence[Function], place: str = "tools[{}].function", rules: Rules = OPENAI
) -> tuple[ToolTemplate, ...]:
    """Checked, in the same order. `place` is the param of the nth one; an ApiError 400 names the field in it."""
    if len(functions) > rules.most:
        raise fields.length("array", "<=", rules.most, "tools", functions)
    _check_unique([function.name for function in functions], place)
    return tuple(_template(function, place.format(index), rules) for index, function in enumerate(functions))


def calling(choice: Choice, offered: Iterable[ToolTemplate], param: str = "tool_choice") -> Calling | None:
    """How the offered tools may be called, None = as the model likes. ApiError for names that are not among them.

    With the mode `none` the model is not to be shown the tools at all.
    """
    names = {tool["function"]["name"] for tool in offered}
    for name in choice.only:
        if name not in names:
            raise ApiError(400, f"Tool choice '{shown(name)}' not found in 'tools' parameter.", "invalid_value", param)
    required = choice.mode == "required"
    if choice.mode == "none" or (not required and not choice.only and choice.parallel):
        return None
    return Calling(required, tuple(dict.fromkeys(choice.only)), choice.parallel)


def needs_tools(param: str) -> ApiError:
    """`param` is given without tools."""
    text = f"Invalid value for '{param}': '{param}' is only allowed when 'tools' are specified."
    return ApiError(400, text, None, param)


def call_id(own: str = "", prefix: str = "call_") -> str:
    """The id of a call: the model's own where it gave one."""
    return own or prefix + uuid4().hex


def _template(function: Function, place: str, rules: Rules) -> ToolTemplate:
    _check_name(function.name, f"{place}.name", rules.name)
    text = function.description
    if text is not None and rules.description is not None and len(text) > rules.description:
        raise fields.length("str", "<=", rules.description, f"{place}.description", text)
    told: dict[str, Any] = {"name": function.name}
    if text is not None:
        told["description"] = text
    told["parameters"] = _parameters(function, f"{place}.{rules.parameters}", rules)
    if function.strict:
        told["strict"] = True
    return {"type": "function", "function": told}


def _check_name(name: str, param: str, longest: int) -> None:
    if not name:
        raise fields.length("str", ">=", 1, param, name)
    if len(name) > longest:
        raise fields.length("str", "<=", longest, param, name)
    if not re.fullmatch(NAME, name):
        raise fields.mismatch(NAME, param)


def _check_unique(names: Sequence[str], place: str) -> None:
    known: set[str] = set()
    for index, name in enumerate(names):
        if name in known:
            param = f"{place.format(index)}.name"
            text = f"Invalid '{param}': there is already a function named '{shown(name)}'."
            raise ApiError(400, text, "invalid_value", param)
        known.add(name)


def _parameters(function: Function, param: str, rules: Rules) -> dict[str, Any]:
    """The schema, which is that of an object."""
    schema = function.parameters
    if schema is None:
        return NO_PARAMETERS
    try:
        limits.check_schema(schema)
    except limits.LimitError as error:
        raise _bad_schema(function, str(error), param) from error
    kind = schema.get("type", "object")
    if kind not in ("object", ["object"]):
        text = f"schema must be a JSON Schema of 'type: \"object\"', got 'type: {shown(repr(kind))}'."
        raise _bad_schema(function, text, param)
    if function.strict and rules.closed and (fault := open_object(schema)):
        raise _bad_schema(function, fault, param)
    return schema if KEYWORDS & schema.keys() else {"type": "object"} | schema


def _bad_schema(function: Function, why: str, param: str) -> ApiError:
    text = f"Invalid schema for function '{function.name}': {why}"
    return ApiError(400, text, "invalid_function_parameters", param)
