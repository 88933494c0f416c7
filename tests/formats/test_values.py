"""JSON from plain text and Python's literals."""

import ast
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmx.formats import values
from lmx.formats.json_text import JsonText
from lmx.formats.tape import Malformed

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
NAMES = st.text(max_size=3)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=8
)


@pytest.mark.parametrize(
    ("text", "kinds", "value"),
    [
        ("5", {"string"}, "5"),
        ("5", {"integer"}, 5),
        ("5.0", {"integer"}, 5.0),
        ("5", {"number"}, 5),
        ("5.5", {"integer"}, "5.5"),
        (" True ", {"boolean"}, True),
        ("None", {"string", "null"}, None),
        ("nothing", {"string", "null"}, "nothing"),
        ("{'a': [1, None]}", {"object"}, {"a": [1, None]}),
        ("[1, 2", {"array"}, "[1, 2"),
        ("true", {"integer"}, "true"),
        ("NaN", {"number"}, "NaN"),
        ("1e999", {"number"}, "1e999"),
        ("007", set(), "007"),
        ("[7]", set(), [7]),
        ("9" * 5000, {"integer"}, "9" * 5000),
        ("[" * 100_000, {"array"}, "[" * 100_000),
        ('{"a": "x\ny"}', {"object"}, {"a": "x\ny"}),
    ],
)
def test_a_value_has_the_type_of_its_schema(text: str, kinds: set[str], value: Any) -> None:
    """And is a string where it cannot have it."""
    assert json.loads(values.written(text, frozenset(kinds))) == value


ROOT = {"$defs": {"A": {"type": "integer"}, "B": {"$ref": "#/$defs/B"}, "C": {"$ref": "#/$defs/A"}}}


@pytest.mark.parametrize(
    ("schema", "kinds"),
    [
        ({"type": "string"}, {"string"}),
        ({"type": ["string", "null"]}, {"string", "null"}),
        ({"enum": ["a", 1, None, True]}, {"string", "integer", "null", "boolean"}),
        ({"const": 1.5}, {"number"}),
        ({"anyOf": [{"type": "array"}, {"$ref": "#/$defs/C"}]}, {"array", "integer"}),
        ({"anyOf": [{"type": "array"}, {}]}, set()),
        ({"allOf": [{"type": "object"}, {}]}, {"object"}),
        ({"$ref": "#/$defs/B"}, set()),
        ({"$ref": "#/nowhere/else"}, set()),
        (True, set()),
    ],
)
def test_the_types_that_a_schema_allows(schema: Any, kinds: set[str]) -> None:
    """Through references and choices; none where nothing is said."""
    assert values.types(schema, ROOT) == kinds


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_python_s_own_way_to_write_is_read(value: Any) -> None:
    """As Python itself reads it."""
    text = repr(value)
    assert json.loads(values.python_to_json(text)) == ast.literal_eval(text)


@pytest.mark.parametrize("text", ["(1, 2)", "f()", "a", "'open", "b'x'", "{1: 2}{", "x[0]"])
def test_anything_else_of_python_is_not(text: str) -> None:
    """Neither run nor guessed."""
    with pytest.raises(Malformed):
        values.checked(values.python_to_json(text))


@settings(max_examples=150, deadline=None)
@given(JSON, st.booleans(), st.integers(1, 5))
def test_json_is_read_in_pieces(value: Any, compact: bool, size: int) -> None:
    """All of it, unchanged, and nothing after it."""
    text = json.dumps(value, ensure_ascii=compact, indent=None if compact else 1) + " tail"
    assert whole(text, len(text)) == (text[:-5], True)
    assert whole(text, size) == (text[:-5], True)


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from('{}[]:,"\\ \n\tu0a1-.eEtrufalsn'), max_size=20))
def test_only_json_is_done(text: str) -> None:
    """What is done is JSON; and what the standard library takes is, with control characters in strings escaped."""
    found, done = whole(text + " ", 3)
    if done:
        json.loads(found)
    try:
        value = json.loads(text, strict=False)
    except ValueError:
        return
    assert done
    assert json.loads(found) == value


def whole(text: str, size: int) -> tuple[str, bool]:
    """What a scanner reads of a text that comes in pieces of `size`."""
    scanner, seen, at, told = JsonText(), "", 0, ""
    for start in range(0, len(text), size):
        seen += text[start : start + size]
        at, piece = scanner.take(seen, at)
        told += piece
    return told, scanner.done
