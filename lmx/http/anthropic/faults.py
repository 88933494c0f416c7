"""What is wrong with a field, in Anthropic's words (which are pydantic's). msgspec finds the fault."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from lmx.http.errors import ApiError, shown

T = TypeVar("T", bound=Struct)

KINDS: Mapping[str, str] = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "array": "list",
    "object": "dictionary",
}
LENGTHS: Mapping[str, tuple[str, str]] = {
    "str": ("String", "character"),
    "array": ("List", "item"),
    "object": ("Dictionary", "item"),
}
CHOICES: Mapping[str, Sequence[str]] = {
    "role": ("user", "assistant", "system"),
    "service_tier": ("auto", "standard_only"),
    "effort": ("low", "medium", "high", "xhigh", "max"),
    "display": ("summarized", "omitted"),
    "speed": ("standard",),
    "inference_geo": ("global",),
    "ttl": ("5m", "1h"),
    "media_type": ("image/jpeg", "image/png", "image/gif", "image/webp"),
    "thinking": ("enabled", "disabled", "adaptive"),
    "tool_choice": ("auto", "any", "tool", "none"),
    "cache_control": ("ephemeral",),
    "system": ("text",),
    "tools": ("custom",),
    "source": ("base64", "url"),
    "format": ("json_schema",),
    "output_format": ("json_schema",),
    "caller": ("direct",),
    "edits": ("clear_thinking_20251015",),
    "content": (
        "text",
        "image",
        "document",
        "search_result",
        "tool_use",
        "tool_result",
        "thinking",
        "redacted_thinking",
    ),
    "result": ("text", "image", "document", "search_result", "tool_reference"),
    "document": ("text", "content"),
    "keep": ("all", "thinking_turns"),
}
"""By the name of the field, or of the field whose `type` it is."""

UNREAD = "No PDF is read here: send its text, and leave it out of the conversation from now on"

_PLACE = re.compile(r" - at (?:`key` in )?`\$(?P<path>[^`]*)`$")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_FIELD = re.compile(r"^Object (?P<fault>missing required|contains unknown) field `(?P<name>.*)`$", re.DOTALL)
_TYPE = re.compile(r"^Expected `(?P<wanted>[^`]+)`, got `\w+`$")
_BOUND = re.compile(r"^Expected `(?:int|float)` (?P<sign><=|>=|<|>) (?P<limit>\S+)$")
_LENGTH = re.compile(r"^Expected `(?P<kind>array|str|object)` of length (?P<sign><=|>=) (?P<limit>\d+)$")
_SIGNS = {"<=": "less than or equal to", ">=": "greater than or equal to", "<": "less than", ">": "greater than"}


def convert(value: Mapping[str, Any], kind: type[T]) -> T:
    """`value` as a `kind`, or an ApiError 400."""
    try:
        return msgspec.convert(value, kind, str_keys=True)
    except msgspec.ValidationError as error:
        raise _explain(str(error), value) from error


def at(place: str, fault: str, code: str = "invalid_value") -> ApiError:
    """The fault of what stands at `messages.0.content`, or wherever."""
    return ApiError(400, f"{place}: {fault}" if place else fault, code)


def missing(place: str) -> ApiError:
    return at(place, "Field required", "missing_required_parameter")


def extra(place: str) -> ApiError:
    return at(place, "Extra inputs are not permitted", "unknown_parameter")


def _explain(text: str, value: Any) -> ApiError:
    found = _PLACE.search(text)
    fault = text[: found.start()] if found else text
    steps = [name or int(index) for name, index in _STEP.findall(found["path"])] if found else []
    place, got = _walk(value, steps)
    steps = ["document" if step == "source" and ".document." in place else step for step in steps]
    if match := _FIELD.match(fault):
        where = f"{place}.{shown(match['name'])}".removeprefix(".")
        return missing(where) if match["fault"] == "missing required" else extra(where)
    return at(place, _words(fault, steps, got), "invalid_type" if _TYPE.match(fault) else "invalid_value")


def _words(fault: str, steps: Sequence[str | int], got: Any) -> str:
    if match := _TYPE.match(fault):
        kinds = [KINDS[kind] for kind in match["wanted"].split(" | ") if kind in KINDS]
        return f"Input should be a valid {' or '.join(kinds)}" if kinds else "Input should be null"
    if match := _BOUND.match(fault):
        return f"Input should be {_SIGNS[match['sign']]} {float(match['limit']):g}"
    if match := _LENGTH.match(fault):
        name, unit = LENGTHS[match["kind"]]
        side = "least" if match["sign"] == ">=" else "most"
        return f"{name} should have at {side} {match['limit']} {unit}{'s' * (match['limit'] != '1')}"
    if fault.startswith("Invalid "):
        return _choice(steps, got)
    return fault.replace("`", "'")


def _choice(steps: Sequence[str | int], got: Any) -> str:
    names = [step for step in steps if isinstance(step, str)]
    allowed = ", ".join(map(repr, CHOICES.get(_chooser(names), ())))
    if names and names[-1] == "type":
        told = f"Input tag {shown(repr(got))} found using 'type' does not match any of the expected tags: {allowed}"
        return f"{told}. {UNREAD}" if _chooser(names) == "document" else told
    head, comma, last = allowed.rpartition(", ")
    return f"Input should be {head} or {last}" if comma else f"Input should be {last or 'null'}"


def _chooser(names: Sequence[str]) -> str:
    """Whose choice it was: of a field, or of the field that has a `type`."""
    if names and names[-1] != "type":
        return names[-1]
    fields = names[:-1]
    return "result" if fields[-1:] == ["content"] and fields.count("content") == 2 else "".join(fields[-1:])


def _walk(value: Any, steps: Sequence[str | int]) -> tuple[str, Any]:
    """The place in Anthropic's notation, where the type of a block is part of its place, and what stands there."""
    place: list[str] = []
    block = ""
    for number, step in enumerate(steps):
        if block and step != "type":
            place.append(block)
        place.append(str(step))
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return ".".join(place), None
        kind = value.get("type") if isinstance(value, dict) and isinstance(step, int) else None
        block = kind if isinstance(kind, str) and kind in CHOICES["content"] and number else ""
    if block and isinstance(value, dict):
        place.append(block)
    return ".".join(place), value
