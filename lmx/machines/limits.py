"""How large and how deep schemas, patterns and grammars may be: checked before anything compiles them."""

import json
import re
from collections.abc import Iterator
from typing import Any

TEXT = 256 * 1024
"""Characters of a schema or a grammar."""
PATTERN = 16 * 1024
"""Characters of one regular expression."""
DEPTH = 64
"""Arrays, objects and groups inside each other."""
PARTS = 12_000
"""Arrays and objects of a schema: references may chain all of them."""
REFERENCES = 2000
"""Of a schema. Any of them may come first, and that takes the square of their number."""
LINES = 5000
GROUPS = 20_000
RULES = 1000
"""Rules of a GBNF grammar, whose conversion takes the square of their number."""
COUNT = 4096
"""The value of maxLength, minItems and their like, and of one {n,m}."""
PRODUCT = 65_536
"""What repetitions inside repetitions may come to."""
VALUES, VALUES_TEXT = 1000, 64 * 1024
"""Values of an enum or a choice, and their characters."""
OPTIONAL = 400
"""Properties of one object that are not required: any of them may come next."""
INLINE_SCHEMAS = 100

COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")

_SHARED = r"(?P<open>\()|(?P<close>\))|\{\s*(?P<low>\d+)\s*(?P<range>,\s*(?P<high>\d*)\s*)?\}"
_STRING = r'"(?:\\.|[^"\\])*"'
_CLASS = r"\[(?:\\.|[^\]\\])*\]"
_IN_PATTERN = re.compile(rf"\\.|{_CLASS}|{_SHARED}|[^\\\[(){{]+|.", re.DOTALL)
_IN_GBNF = re.compile(rf'{_STRING}|{_CLASS}|#[^\n]*|{_SHARED}|[^\s"\[(){{#]+|\S', re.DOTALL)
_IN_LARK = re.compile(
    rf"{_STRING}|//[^\n]*|/(?P<pattern>(?:\\.|[^/\\\n])+)/|~\s*(?P<times>\d+)(?:\s*\.\.\s*(?P<most>\d+))?|{_SHARED}"
    r'|[^\s"/(){~]+|\S',
    re.DOTALL,
)
_INLINE_SCHEMA = re.compile(r"%json\s*")


class LimitError(ValueError):
    """Something is too large, or nothing that could be compiled; the message is a sentence for the user."""


def check_schema(schema: object) -> None:
    """Raise LimitError for a JSON schema that must not be compiled."""
    if not isinstance(schema, dict):
        raise LimitError("A schema must be a JSON object.")
    for part in _parts(schema):
        if isinstance(part, dict):
            _check_keywords(part)
    if len(json.dumps(schema, ensure_ascii=False)) > TEXT:
        raise LimitError(f"The schema has more than {TEXT} characters.")


def check_pattern(pattern: str) -> None:
    """Raise LimitError for a regular expression that must not be compiled."""
    if len(pattern) > PATTERN:
        raise LimitError(f"The pattern has more than {PATTERN} characters.")
    _check_text(pattern)
    _check_repetitions(_IN_PATTERN, pattern)


def check_gbnf(grammar: str) -> None:
    """Raise LimitError for a GBNF grammar that must not be compiled."""
    _check_grammar(grammar)
    if grammar.count("::=") > RULES:
        raise LimitError(f"The grammar has more than {RULES} rules.")
    _check_repetitions(_IN_GBNF, grammar)


def check_lark(grammar: str) -> None:
    """Raise LimitError for a Lark grammar that must not be compiled; schemas in it (%json) are checked as such."""
    _check_grammar(grammar)
    _check_repetitions(_IN_LARK, grammar)
    starts = [match.end() for match in _INLINE_SCHEMA.finditer(grammar)]
    if len(starts) > INLINE_SCHEMAS:
        raise LimitError(f"The grammar has more than {INLINE_SCHEMAS} schemas.")
    for start in starts:
        check_schema(_inline_schema(grammar, start))


def check_choice(options: object) -> None:
    """Raise LimitError for anything but a list of 1 … VALUES strings of moderate length."""
    if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
        raise LimitError("A choice must be a list of strings.")
    if not 1 <= len(options) <= VALUES:
        raise LimitError(f"A choice must have 1 to {VALUES} strings.")
    if sum(map(len, options)) > VALUES_TEXT:
        raise LimitError(f"The strings have more than {VALUES_TEXT} characters together.")
    for option in options:
        _check_text(option)


def _parts(schema: dict[str, Any]) -> Iterator[dict[str, Any] | list[Any]]:
    """Every object and array of a schema, the outermost first; raises at once when there are too many."""
    waiting: list[tuple[dict[str, Any] | list[Any], int]] = [(schema, 1)]
    seen = references = 0
    while waiting:
        part, depth = waiting.pop()
        seen += 1
        if depth > DEPTH:
            raise LimitError(f"The schema is nested more than {DEPTH} levels deep.")
        if seen > PARTS:
            raise LimitError(f"The schema has more than {PARTS} objects and arrays.")
        references += "$ref" in part
        if references > REFERENCES:
            raise LimitError(f"The schema has more than {REFERENCES} references.")
        yield part
        children = part.values() if isinstance(part, dict) else part
        waiting += [(child, depth + 1) for child in children if isinstance(child, dict | list)]


def _check_keywords(part: dict[str, Any]) -> None:
    for keyword in COUNTS:
        value = part.get(keyword)
        if isinstance(value, int | float) and value > COUNT:
            raise LimitError(f"'{keyword}' is larger than {COUNT}.")
    if isinstance(values := part.get("enum"), list) and _too_many(values):
        raise LimitError(f"An 'enum' has more than {VALUES} values or {VALUES_TEXT} characters.")
    if isinstance(properties := part.get("properties"), dict) and len(properties) > OPTIONAL:
        required = part.get("required")
        if len(properties) - (len(required) if isinstance(required, list) else 0) > OPTIONAL:
            raise LimitError(f"An object has more than {OPTIONAL} properties that are not required.")
    if isinstance(target := part.get("$ref"), str) and not target.startswith("#"):
        raise LimitError("A '$ref' may only point into the schema itself (#/…): nothing is fetched.")
    if "x-guidance" in part:
        raise LimitError("'x-guidance' cannot be honoured.")
    if isinstance(pattern := part.get("pattern"), str):
        check_pattern(pattern)
    if isinstance(patterns := part.get("patternProperties"), dict):
        for pattern in patterns:
            check_pattern(pattern)


def _too_many(values: list[Any]) -> bool:
    return len(values) > VALUES or len(json.dumps(values, ensure_ascii=False)) > VALUES_TEXT


def _check_grammar(grammar: str) -> None:
    """What bounds the compiler's recursion, counted without regard to strings and comments."""
    if len(grammar) > TEXT:
        raise LimitError(f"The grammar has more than {TEXT} characters.")
    if grammar.count("\n") + grammar.count("\r") >= LINES:
        raise LimitError(f"The grammar has more than {LINES} lines.")
    if grammar.count("(") + grammar.count("[") > GROUPS:
        raise LimitError(f"The grammar has more than {GROUPS} groups.")
    _check_text(grammar)


def _check_text(text: str) -> None:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise LimitError("The text holds half of a surrogate pair.")


def _check_repetitions(tokens: re.Pattern[str], text: str) -> None:
    """Groups are not nested too deep, and repetitions inside repetitions do not come to too much."""
    largest, latest = [1], 1
    for match in tokens.finditer(text):
        found = match.groupdict()
        if found["open"]:
            largest.append(1)
        elif found["close"] and len(largest) > 1:
            latest = largest.pop()
            largest[-1] = max(largest[-1], latest)
        elif times := _times(found):
            latest = _repeated(latest, times)
            largest[-1] = max(largest[-1], latest)
        else:
            latest = 1
        if len(largest) > DEPTH + 1:
            raise LimitError(f"Groups are nested more than {DEPTH} levels deep.")
        if inner := found.get("pattern"):
            check_pattern(inner)


def _times(found: dict[str, str | None]) -> list[str]:
    """The numbers of a repetition."""
    return [number for name in ("low", "high", "times", "most") if (number := found.get(name))]


def _repeated(inner: int, times: list[str]) -> int:
    if any(len(number) > len(str(COUNT)) or int(number) > COUNT for number in times):
        raise LimitError(f"Something is to be repeated more than {COUNT} times.")
    product = inner * max(1, *map(int, times))
    if product > PRODUCT:
        raise LimitError(f"Repetitions inside repetitions come to more than {PRODUCT}.")
    return product


def _inline_schema(grammar: str, start: int) -> object:
    try:
        schema, _ = json.JSONDecoder().raw_decode(grammar, start)
    except (ValueError, RecursionError) as error:
        raise LimitError("'%json' must be followed by a JSON schema.") from error
    return schema
