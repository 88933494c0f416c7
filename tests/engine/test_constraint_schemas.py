"""Whatever a model would write under a schema is JSON that the schema accepts."""

import json
from typing import Any

import jsonschema
import pytest

from lmx.machines.types import Constraint
from tests.support.constraints import model, possible_text, schema, written

WALKS = 6


def obj(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


STRING = {"type": "string", "maxLength": 12}
TREE = {"$ref": "#/$defs/tree", "$defs": {"tree": obj(("v",), v={"type": "integer"}, kid={"$ref": "#/$defs/tree"})}}
LINKED = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["next"],
          "additionalProperties": False}  # fmt: skip
PETS = {
    "oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}],
    "discriminator": {"propertyName": "kind"},
    "$defs": {
        "cat": obj(("kind",), kind={"const": "cat"}, lives={"type": "integer", "minimum": 0, "maximum": 9}),
        "dog": obj(("kind",), kind={"const": "dog"}, good={"type": "boolean"}),
    },
}

SCHEMAS: dict[str, dict[str, Any]] = {
    "null": {"type": "null"},
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "range": {"type": "integer", "minimum": -17, "maximum": 1203},
    "exclusive": {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 6},
    "decimals": {"type": "number", "minimum": 0.25, "maximum": 12.5},
    "negative": {"type": "number", "maximum": -0.5},
    "multiple": {"type": "integer", "multipleOf": 7, "minimum": 1, "maximum": 500},
    "string": {"type": "string", "minLength": 2, "maxLength": 9},
    "pattern": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{1,4}$"},
    "loose_pattern": {"type": "string", "pattern": "ab+c", "maxLength": 20},
    "date": {"type": "string", "format": "date"},
    "time": {"type": "string", "format": "date-time"},
    "uuid": {"type": "string", "format": "uuid"},
    "email": {"type": "string", "format": "email"},
    "ipv4": {"type": "string", "format": "ipv4"},
    "enum": {"enum": ["red", "green", 3, None, True, {"a": [1, "x"]}, "é\n\"\\"]},
    "const": {"const": {"deep": [1, 2, {"er": None}]}},
    "array": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 5},
    "tuple": {"type": "array", "prefixItems": [{"type": "integer"}, STRING], "items": False, "minItems": 2},
    "old_tuple": {"type": "array", "prefixItems": [{"const": 1}], "items": {"const": 2}, "maxItems": 4},
    "nested_arrays": {"type": "array", "maxItems": 3, "items": {"type": "array", "maxItems": 2, "items": STRING}},
    "object": obj(("name", "age"), name=STRING, age={"type": "integer", "minimum": 0, "maximum": 150}),
    "optional": obj(("b",), a={"type": "null"}, b={"type": "null"}, c={"type": "null"}),
    "additional": {"type": "object", "properties": {"a": {"const": 1}}, "additionalProperties": {"type": "null"}},
    "open": {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]},
    "map": {"type": "object", "patternProperties": {"^k[0-9]$": {"type": "boolean"}}, "additionalProperties": False},
    "counted": {"type": "object", "additionalProperties": {"type": "null"}, "minProperties": 1, "maxProperties": 3},
    "types": {"type": ["string", "null", "boolean"], "maxLength": 5},
    "nullable": obj(("x",), x={"anyOf": [{"type": "integer", "maximum": 99, "minimum": 0}, {"type": "null"}]}),
    "any_of": {"anyOf": [obj(("a",), a={"const": 1}), obj(("b",), b={"const": 2}), {"enum": ["none"]}]},
    "one_of": PETS,
    "all_of": {"allOf": [{"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]},
                         {"type": "object", "properties": {"b": {"const": 2}}, "required": ["b"]}]},
    "siblings": {"$ref": "#/$defs/s", "minLength": 3, "$defs": {"s": {"type": "string", "maxLength": 6}}},
    "recursive": TREE,
    "linked": LINKED,
    "anchors": {"$id": "https://example.org/s", "$ref": "#/$defs/a%20b", "$defs": {"a b": {"enum": [1, 2]}}},
    "odd_names": obj(("a b", 'q"', "é", ""), **{"a b": {"const": 1}, 'q"': {"const": 2}, "é": {"const": 3},
                                                "": {"const": 4}}),
    "annotated": {"title": "T", "description": "D", "default": 1, "examples": [1], "deprecated": True, "x-mine": {},
                  "type": "integer", "minimum": 1, "maximum": 3},
    "tool": obj(("name", "arguments"), name={"const": "get_weather"},
                arguments=obj(("city",), city=STRING, unit={"enum": ["C", "F"]})),
}  # fmt: skip


@pytest.mark.parametrize("vocabulary", ["guide", "tiny"])
@pytest.mark.parametrize("name", SCHEMAS)
def test_whatever_is_written_under_a_schema_is_valid(name: str, vocabulary: str) -> None:
    """Random walks over the masks: each finished text parses and validates, and enough of them finish."""
    chosen = model(vocabulary)
    grammar = chosen.grammars().compile(schema(SCHEMAS[name]))
    texts = [text for seed in range(WALKS) if (text := written(grammar, chosen.info, seed)) is not None]
    assert texts
    # What checks date-time knows no leap second, which RFC 3339 has.
    formats = jsonschema.FormatChecker(set(jsonschema.FormatChecker.checkers) - {"date-time"})
    validator = jsonschema.Draft202012Validator(SCHEMAS[name], format_checker=formats)
    for text in texts:
        validator.validate(json.loads(text.decode()))


@pytest.mark.parametrize("vocabulary", ["guide", "tiny", "guide_mlx"])
def test_json_object_is_any_object_and_nothing_else(vocabulary: str) -> None:
    """{"type": "json_object"}."""
    chosen = model(vocabulary)
    grammar = chosen.grammars().compile(Constraint("json_object"))
    texts = [text for seed in range(30) if (text := written(grammar, chosen.info, seed)) is not None]
    assert texts
    assert all(isinstance(json.loads(text.decode()), dict) for text in texts)


@pytest.mark.parametrize(
    ("text", "possible"),
    [
        ('{"a":1,"b":[]}', True),
        ('{"a": 1, "b": []}', True),
        ('{ "a" : 1 , "b" : [ ] }', True),
        ('{"a":  1, "b": []}', False),
        ('{"a":\n1, "b": []}', False),
        (' {"a":1,"b":[]}', False),
        ('{"a":1,"b":[]} ', False),
        ('{"b":[],"a":1}', False),
    ],
)
def test_blank_space_is_at_most_one_space_between_tokens(text: str, possible: bool) -> None:
    """A model cannot write blank space for ever; compact JSON and json.dumps' form are both possible."""
    constraint = schema(obj(("a", "b"), a={"const": 1}, b={"type": "array", "maxItems": 0}))
    assert possible_text(constraint, text) is possible
