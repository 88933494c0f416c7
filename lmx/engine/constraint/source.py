"""From a constraint to what llguidance compiles. Everything is checked against the limits first."""

import json
import re
from typing import Any

from llguidance import LLMatcher
from llguidance.gbnf_to_lark import gbnf_to_lark

from lmx.engine.constraint.errors import refused
from lmx.machines import limits
from lmx.machines.types import Constraint

SPACE = " "
"""At most one space between the tokens of JSON: where more is allowed, some models write blank space for ever."""
JSON_OPTIONS: Any = {"whitespace_pattern": SPACE, "lenient": False, "coerce_one_of": False}
ANY_OBJECT = '{"type": "object"}'

_LARK_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|/(?:\\.|[^/\\\n])+/|(?P<schema>%json\s*)|[^"/%]+|.', re.DOTALL)
_ESCAPE = re.compile(r"\\(?:\\|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))")


def source(constraint: Constraint) -> str:
    """The grammar in llguidance's own form. Raises ConstraintError."""
    try:
        return _source(constraint)
    except limits.LimitError as error:
        raise refused(constraint, str(error)) from error
    except (ValueError, RecursionError) as error:
        raise refused(constraint, f"it cannot be read ({error}).") from error


def _source(constraint: Constraint) -> str:
    text = constraint.text
    match constraint.kind:
        case "json_object":
            return _json(ANY_OBJECT)
        case "json_schema":
            if len(text) > limits.TEXT:
                raise limits.LimitError(f"The schema has more than {limits.TEXT} characters.")
            limits.check_schema(json.loads(text))
            return _json(text)
        case "regex":
            limits.check_pattern(text)
            return LLMatcher.grammar_from_regex(text)
        case "lark":
            limits.check_lark(text)
            return _lark(text)
        case "gbnf":
            limits.check_gbnf(text)
            return _lark(_converted(text))
        case "choice":
            options = json.loads(text)
            limits.check_choice(options)
            return LLMatcher.grammar_from_regex("|".join(map(_literal, options)))


def spaced(lark: str) -> str:
    """Lark whose inline schemas are written as others are."""
    pieces: list[str] = []
    at = 0
    while found := _LARK_TOKEN.match(lark, at):
        pieces.append(found[0])
        at = found.end()
        if found["schema"]:
            schema, at = json.JSONDecoder().raw_decode(lark, at)
            pieces.append(json.dumps({"x-guidance": JSON_OPTIONS} | schema))
    return "".join(pieces)


def _json(schema: str) -> str:
    return LLMatcher.grammar_from_json_schema(schema, overrides=JSON_OPTIONS)


def _lark(grammar: str) -> str:
    """Wrapped, as a text that begins with a brace would be taken for llguidance's own form."""
    return json.dumps({"grammars": [{"lark_grammar": grammar}]})


def _converted(gbnf: str) -> str:
    """As Lark. The library's converter knows the escapes of Lark only."""
    try:
        return gbnf_to_lark(_ESCAPE.sub(_unescaped, gbnf))
    except Exception as error:  # however the converter fails, the request is refused: docs/decisions/0009
        raise ValueError(str(error)) from error


def _unescaped(match: re.Match[str]) -> str:
    """A numbered character as itself, or in the one form that both converter and Lark know."""
    digits = match[1] or match[2] or match[3]
    if digits is None:
        return match[0]
    character = chr(int(digits, 16))
    return character if character.isalnum() or not character.isascii() else f"\\x{ord(character):02x}"


def _literal(option: str) -> str:
    """A pattern for this very string."""
    return "".join(character if character.isalnum() else f"\\x{{{ord(character):x}}}" for character in option)
