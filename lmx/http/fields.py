"""What is wrong with a field, said in OpenAI's words. msgspec finds the fault, this module names it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from lmx.http.errors import ApiError, shown

T = TypeVar("T", bound=Struct)

KINDS: Mapping[str, str] = {
    "int": "an integer",
    "float": "a decimal",
    "str": "a string",
    "bool": "a boolean",
    "array": "an array",
    "object": "an object",
    "null": "null",
    "list": "an array",  # what a tag is, is told in Python's words
    "dict": "an object",
    "NoneType": "null",
}
NAMES: Mapping[str, tuple[str, str]] = {"int": ("integer", "integer"), "float": ("decimal", "decimal")}

_PLACE = re.compile(r" - at (?P<key>`key` in )?`\$(?P<path>[^`]*)`$")
_INDEX = re.compile(r"\[\d+\]")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_TYPE = re.compile(r"^Expected `(?P<wanted>[^`]+)`, got `(?P<got>\w+)`$")
_BOUND = re.compile(r"^Expected `(?P<kind>int|float)` (?P<sign><=|>=|<|>) (?P<limit>\S+)$")
_LENGTH = re.compile(r"^Expected `(?P<kind>array|str|object)` of length (?P<sign><=|>=) (?P<limit>\d+)$")
_FIELD = re.compile(r"^Object (?P<fault>missing required|contains unknown) field `(?P<name>.*)`$", re.DOTALL)
_REGEX = re.compile(r"^Expected `str` matching regex (?P<quote>['\"])(?P<pattern>.*)(?P=quote)$")
_CHOICE = re.compile(r"^Invalid (?:enum )?value ")


def convert(
    value: Mapping[str, Any], kind: type[T], choices: Mapping[str, tuple[str, ...]], known: frozenset[str]
) -> T:
    """`value` as a `kind`.

    `choices`: allowed values by path (without indices) or field name; `known`: fields that OpenAI has and lmx has not.
    """
    try:
        return msgspec.convert(value, kind, str_keys=True)
    except msgspec.ValidationError as error:
        raise _explain(str(error), value, choices, known) from error


def unsupported(param: str, detail: str = "") -> ApiError:
    return ApiError(400, f"'{param}' is not supported by lmx yet{detail}.", "unsupported_parameter", param)


def bound(kind: str, sign: str, limit: float, param: str | None, got: Any) -> ApiError:
    """A number (`int` or `float`) is not `sign` `limit`."""
    name = "integer" if kind == "int" else "decimal"
    side, edge = ("above", "maximum") if sign.startswith("<") else ("below", "minimum")
    instead = "" if got is None else f", but got {shown(got)} instead"
    allowed = limit if isinstance(limit, int) else f"{limit:g}"
    message = f"Invalid '{param}': {name} {side} {edge} value. Expected a value {sign} {allowed}{instead}."
    return ApiError(400, message, f"{name}_{side}_{edge[:3]}_value", param)


def _explain(text: str, value: Any, choices: Mapping[str, tuple[str, ...]], known: frozenset[str]) -> ApiError:
    place = _PLACE.search(text)
    fault = text[: place.start()] if place else text
    path = place["path"] if place else ""
    param = path.replace("[...]", "").removeprefix(".") or None
    if place and place["key"]:
        return ApiError(400, f"Invalid key in '{param}': {_in_words(fault)}.", "invalid_value", param)
    got = _lookup(value, path)
    if match := _FIELD.match(fault):
        return _field(match["name"], param, match["fault"] == "missing required", known)
    if match := _TYPE.match(fault):
        wanted = _one_of(match["wanted"])
        message = f"Invalid type for '{param}': expected {wanted}, but got {KINDS[match['got']]} instead."
        return ApiError(400, message, "invalid_type", param)
    if match := _BOUND.match(fault):
        limit = int(match["limit"]) if match["kind"] == "int" else float(match["limit"])
        return bound(match["kind"], match["sign"], limit, param, got)
    if match := _LENGTH.match(fault):
        return length(match["kind"], match["sign"], int(match["limit"]), param, got)
    if match := _REGEX.match(fault):
        return mismatch(match["pattern"], param)
    if _CHOICE.match(fault):
        return _choice(param, got, choices)
    return ApiError(400, f"Invalid value for '{param}': {_in_words(fault)}.", "invalid_value", param)


def _field(name: str, parent: str | None, missing: bool, known: frozenset[str]) -> ApiError:
    param = f"{parent}.{name}" if parent else name
    if missing:
        return ApiError(400, f"Missing required parameter: '{param}'.", "missing_required_parameter", param)
    if name in known:
        return unsupported(param)
    param = shown(param)
    return ApiError(400, f"Unrecognized request argument supplied: {param}", "unknown_parameter", param)


def length(kind: str, sign: str, limit: int, param: str | None, got: Any) -> ApiError:
    """A value (`str`, `array` or `object`) has not `sign` `limit` characters or elements."""
    name = "string" if kind == "str" else kind
    a = KINDS[kind]
    size = len(got) if got is not None else None
    if sign == ">=" and not size:
        message = f"Invalid '{param}': empty {name}. Expected {a} with minimum length {limit}, but got an empty {name}"
        return ApiError(400, f"{message} instead.", f"empty_{name}", param)
    word, side, edge = ("too long", "above", "maximum") if sign == "<=" else ("too short", "below", "minimum")
    instead = "" if size is None else f", but got {a} with length {size} instead"
    message = f"Invalid '{param}': {name} {word}. Expected {a} with {edge} length {limit}{instead}."
    return ApiError(400, message, f"{name}_{side}_{edge[:3]}_length", param)


def mismatch(pattern: str, param: str | None) -> ApiError:
    text = f"Invalid '{param}': string does not match pattern. Expected a string that matches the pattern '{pattern}'."
    return ApiError(400, text, "invalid_value", param)


def _choice(param: str | None, got: Any, choices: Mapping[str, tuple[str, ...]]) -> ApiError:
    path = _INDEX.sub("", param or "")
    allowed = choices.get(path) or choices.get(path.rpartition(".")[2], ())
    listed = f" Supported values are: {', '.join(map(repr, allowed))}." if allowed else ""
    return ApiError(400, f"Invalid value: {shown(repr(got))}.{listed}", "invalid_value", param)


def _one_of(wanted: str) -> str:
    kinds = [KINDS.get(kind, kind) for kind in wanted.split(" | ") if kind != "null"]
    return kinds[0] if len(kinds) == 1 else f"one of {' or '.join(kinds)}"


def _in_words(fault: str) -> str:
    return fault[:1].lower() + fault[1:].replace("`", "")


def _steps(path: str) -> Iterator[str | int | None]:
    for name, index in _STEP.findall(path):
        yield name or (int(index) if index.isdigit() else None)


def _lookup(value: Any, path: str) -> Any:
    """The value at msgspec's `path`; None when the path does not say which (`[...]`)."""
    for step in _steps(path):
        if step is None:
            return None
        value = value[step]
    return value
