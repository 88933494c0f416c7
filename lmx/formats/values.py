"""Values that are written as plain text or as Python does, and the JSON that a function's schema makes of them."""

import ast
import json
import math
import re
from typing import Any

from lmx.formats.json_text import JsonText
from lmx.formats.tape import Malformed

Schema = Any
"""A JSON schema: an object, or true or false."""

_MANY = 16
"""References and choices inside each other, after which a schema is not followed further."""
_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array"), (dict, "object"),
)  # fmt: skip
_PYTHON = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|([A-Za-z]+)|([-+.\w]+)|([\s\[\]{}:,]+)""", re.DOTALL)
_NAMES = {"True": "true", "False": "false", "None": "null", "true": "true", "false": "false", "null": "null"}


def dumps(value: object) -> str:
    """JSON that can be sent: half a surrogate pair stays an escape."""
    text = json.dumps(value, ensure_ascii=False)
    return json.dumps(value) if any("\ud800" <= character <= "\udfff" for character in text) else text


def escaped(text: str) -> str:
    """A piece of a string, as it stands within JSON's quotes."""
    return dumps(text)[1:-1]


def resolved(schema: Schema, root: Schema) -> Schema:
    """What a schema's reference into its root points to; the schema itself where it has none."""
    for _ in range(_MANY):
        if not isinstance(schema, dict) or not isinstance(target := schema.get("$ref"), str):
            break
        place = root
        for key in target.removeprefix("#").strip("/").split("/"):
            place = place.get(key.replace("~1", "/").replace("~0", "~")) if isinstance(place, dict) else None
        schema = place
    return schema


def properties(parameters: Schema) -> dict[str, Schema]:
    """The schemas of an object's members."""
    found = resolved(parameters, parameters)
    found = found.get("properties") if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def types(schema: Schema, root: Schema) -> frozenset[str]:
    """JSON's names of the types that a value may have; none if nothing is said."""
    return _types(schema, root, set(), 0) or frozenset()


def _types(schema: Schema, root: Schema, seen: set[int], depth: int) -> frozenset[str] | None:
    """None for a schema that was seen before: it allows nothing new."""
    schema = resolved(schema, root)
    if not isinstance(schema, dict) or depth > _MANY:
        return frozenset()
    if id(schema) in seen:
        return None
    seen.add(id(schema))
    if said := schema.get("type"):
        return frozenset(name for name in (said if isinstance(said, list) else [said]) if isinstance(name, str))
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(values, list):
        return frozenset(map(kind, values))
    for word in ("anyOf", "oneOf", "allOf"):
        if isinstance(members := schema.get(word), list):
            found = [_types(member, root, seen, depth + 1) for member in members]
            each = [one for one in found if one is not None]
            return frozenset().union(*each) if word == "allOf" or all(each) else frozenset()
    return frozenset()


def kind(value: object) -> str:
    """JSON's name of a value's type."""
    return next((name for made, name in _KINDS if isinstance(value, made)), "null")


def written(text: str, allowed: frozenset[str]) -> str:
    """The JSON for a value that came as plain text: of a type that is allowed, or else a string."""
    for read in (str.strip, python_to_json) if allowed != {"string"} else ():
        try:
            found = checked(read(text))
        except Malformed:
            continue
        value = json.loads(found)
        if not allowed or kind(value) in allowed or _numeric(value, allowed):
            return found
    return dumps(text)


def _numeric(value: object, allowed: frozenset[str]) -> bool:
    """A whole number is an integer and a number, however it is written."""
    if isinstance(value, bool):
        return False
    return (isinstance(value, int) and "number" in allowed) or (
        isinstance(value, float) and value.is_integer() and "integer" in allowed
    )


def checked(text: str) -> str:
    """JSON that everybody can read: neither nested too deep nor with numbers that are none. Raises Malformed."""
    scanner = JsonText()
    end, found = scanner.take(text + " ", 0)
    if not scanner.done or text[end:].strip() or any("\ud800" <= character <= "\udfff" for character in text):
        raise Malformed
    try:
        json.loads(found, parse_float=_finite)
    except ValueError as error:
        raise Malformed from error
    return found.strip()


def _finite(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError(digits)
    return value


def python_to_json(text: str) -> str:
    """The JSON for a Python literal of strings, numbers, names, lists and dicts. Raises Malformed."""
    pieces, at = [], 0
    while at < len(text):
        token = _PYTHON.match(text, at)
        if token is None:
            raise Malformed
        string, name, number, rest = token.groups()
        if name is not None and name not in _NAMES:
            raise Malformed
        pieces.append(_python_string(string) if string else _NAMES[name] if name else number or rest)
        at = token.end()
    return "".join(pieces).strip()


def _python_string(text: str) -> str:
    """Also one that is JSON's already, or goes on over several lines."""
    try:
        return dumps(json.loads(text))
    except ValueError:
        pass
    try:
        return dumps(ast.literal_eval(text.replace("\r", "\\r").replace("\n", "\\n")))
    except (ValueError, SyntaxError) as error:
        raise Malformed from error
