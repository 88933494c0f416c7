"""Structured output as clients ask for it: what becomes a constraint, and what is refused before any model sees it."""

import json
import time
from typing import Any

import pytest

from lmx.actors.messages.client import Refused
from lmx.http.constraints import constraint_of
from lmx.http.errors import ApiError
from lmx.machines.types import Constraint, Refusal, RefusalKind
from tests.http.conftest import Served
from tests.support.dummies import tells

HI = [{"role": "user", "content": "Hi"}]
OBJECT = {"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "integer"}}}
CLOSED = OBJECT | {"additionalProperties": False}


def asked(**fields: Any) -> Constraint | None:
    names = ("response_format", "regex", "grammar", "choice")
    return constraint_of(*(fields.get(name) for name in names))


def form(**fields: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x"} | fields}


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, Constraint("json_object")),
        ({"response_format": form(schema=OBJECT, description="d")}, Constraint("json_schema", json.dumps(OBJECT))),
        ({"response_format": form(schema=OBJECT, strict=None)}, Constraint("json_schema", json.dumps(OBJECT))),
        ({"response_format": form(schema=CLOSED, strict=True)}, Constraint("json_schema", json.dumps(CLOSED))),
        ({"response_format": form(schema=OBJECT, strict=False)}, Constraint("json_schema", json.dumps(OBJECT))),
        ({"regex": "a+"}, Constraint("regex", "a+")),
        ({"grammar": 'start: "a"'}, Constraint("lark", 'start: "a"')),
        ({"grammar": 'root ::= "a"'}, Constraint("gbnf", 'root ::= "a"')),
        ({"grammar": {"type": "lark", "text": 'start: "::="'}}, Constraint("lark", 'start: "::="')),
        ({"grammar": {"type": "gbnf", "text": 'root ::= "a"'}}, Constraint("gbnf", 'root ::= "a"')),
        ({"choice": ["yes", "no", "é\n"]}, Constraint("choice", '["yes","no","é\\n"]')),
        ({"response_format": {"type": "text"}, "regex": "a+"}, Constraint("regex", "a+")),
    ],
)
def test_what_may_be_asked_for(fields: dict[str, Any], constraint: Constraint | None) -> None:
    """OpenAI's response_format, and lmx' own regex, grammar and choice."""
    found = asked(**fields)
    if found is not None and found.kind == "json_schema" and constraint is not None:
        assert found.kind == constraint.kind
        assert list(json.loads(found.text)["properties"]) == ["z", "a"]  # in the order in which they are written
        assert json.loads(found.text) == json.loads(constraint.text)
    else:
        assert found == constraint


BAD: list[tuple[dict[str, Any], str | None, str, str]] = [
    ({"response_format": "json"}, "invalid_type", "response_format", "expected an object, but got a string"),
    ({"response_format": {}}, "missing_required_parameter", "response_format.type", "'response_format.type'"),
    (
        {"response_format": {"type": "xml"}},
        "invalid_value",
        "response_format.type",
        "Supported values are: 'json_object'",
    ),
    ({"response_format": {"type": ["text"]}}, "invalid_type", "response_format.type", "but got an array"),
    (
        {"response_format": {"type": "json_schema"}},
        "missing_required_parameter",
        "response_format.json_schema",
        "Missing required parameter: 'response_format.json_schema'.",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
        "missing_required_parameter",
        "response_format.json_schema.name",
        "Missing required parameter: 'response_format.json_schema.name'.",
    ),
    ({"response_format": form(schema=OBJECT, strict=True)}, None, "response_format", "In context=(), 'additionalProp"),
    (
        {"response_format": form(schema=CLOSED | {"properties": {"x": OBJECT}}, strict=True)},
        None,
        "response_format",
        "In context=('properties', 'x'), 'additionalProperties' is required to be supplied and to be false.",
    ),
    ({"response_format": form()}, "missing_required_parameter", "response_format.json_schema.schema", "Missing"),
    ({"response_format": form(name="a b")}, "invalid_value", "response_format.json_schema.name", "not match pattern"),
    (
        {"response_format": form(name="x" * 65)},
        "string_above_max_length",
        "response_format.json_schema.name",
        "maximum length 64",
    ),
    (
        {"response_format": form(schema=True)},
        "invalid_type",
        "response_format.json_schema.schema",
        "expected an object",
    ),
    ({"response_format": form(schema=123)}, "invalid_type", "response_format.json_schema.schema", "expected an object"),
    ({"response_format": form(strict="yes")}, "invalid_type", "response_format.json_schema.strict", "a boolean"),
    ({"response_format": form(scheme={})}, "unknown_parameter", "response_format.json_schema.scheme", "scheme"),
    (
        {"response_format": {"type": "text", "json_schema": {"name": "x"}}},
        "unknown_parameter",
        "response_format.json_schema",
        "response_format.json_schema",
    ),
    ({"response_format": form(schema={"maxLength": 10**9})}, "invalid_constraint", "response_format", "'maxLength'"),
    ({"response_format": form(schema={"$ref": "http://x/"})}, "invalid_constraint", "response_format", "'$ref'"),
    ({"response_format": form(schema={"enum": [1] * 20_000})}, "invalid_constraint", "response_format", "'enum'"),
    ({"regex": 5}, "invalid_type", "regex", "expected a string"),
    ({"regex": "(" * 2000 + ")" * 2000}, "invalid_constraint", "regex", "64 levels"),
    ({"grammar": 5}, "invalid_type", "grammar", "one of a string or an object"),
    (
        {"grammar": {"type": "ebnf", "text": ""}},
        "invalid_value",
        "grammar.type",
        "Supported values are: 'lark', 'gbnf'.",
    ),
    ({"grammar": {"type": "lark"}}, "missing_required_parameter", "grammar.text", "'grammar.text'"),
    ({"grammar": "root ::= " + "(" * 20_000}, "invalid_constraint", "grammar", "64 levels"),
    ({"grammar": "start: " + "(" * 100_000}, "invalid_constraint", "grammar", "groups"),
    ({"choice": []}, "empty_array", "choice", "minimum length 1"),
    ({"choice": ["a"] * 1001}, "array_above_max_length", "choice", "maximum length 1000"),
    ({"choice": ["a", 5]}, "invalid_type", "choice[1]", "expected a string"),
    ({"choice": "a"}, "invalid_type", "choice", "expected an array"),
    ({"choice": ["\ud800"]}, "invalid_constraint", "choice", "surrogate"),
    ({"choice": ["a"], "regex": "a"}, "invalid_value", "choice", "Only one of 'regex', 'choice' can be given."),
    (
        {"response_format": {"type": "json_object"}, "grammar": 'start: "a"'},
        "invalid_value",
        "grammar",
        "Only one of 'response_format', 'grammar' can be given.",
    ),
]


@pytest.mark.parametrize(("fields", "code", "param", "words"), BAD)
def test_what_is_wrong_is_a_400_that_names_the_field(
    fields: dict[str, Any], code: str | None, param: str, words: str
) -> None:
    """RELIABILITY B53, B70-B76: said here, in OpenAI's words, and fast."""
    begun = time.perf_counter()
    with pytest.raises(ApiError) as caught:
        asked(**fields)
    assert time.perf_counter() - begun < 1.0
    error = caught.value.error
    assert (caught.value.status, error.type, error.code, error.param) == (400, "invalid_request_error", code, param)
    assert words in error.message


def test_a_schema_nested_without_end_is_refused() -> None:
    """Deeper than Python's own recursion: counted, not followed."""
    schema: dict[str, Any] = {}
    for _ in range(100_000):
        schema = {"items": schema}
    with pytest.raises(ApiError, match="64 levels"):
        asked(response_format=form(schema=schema))
    while schema:  # taken apart by hand, as the interpreter would do it recursively
        schema = schema["items"]


@pytest.mark.parametrize(
    ("path", "prompt"), [("/v1/chat/completions", {"messages": HI}), ("/v1/completions", {"prompt": "x"})]
)
async def test_both_routes_refuse_a_bad_constraint(served: Served, path: str, prompt: dict[str, Any]) -> None:
    """No actor hears of it."""
    status, _, body = await served.post(path, {"model": "m", **prompt, "choice": ["a"], "regex": "b"})
    assert (status, body["error"]["param"]) == (400, "choice")
    status, _, body = await served.post(
        path, {"model": "m", **prompt, "response_format": form(schema={"maxItems": 1e9})}
    )
    assert (status, body["error"]["code"], body["error"]["param"]) == (400, "invalid_constraint", "response_format")
    assert not served.admission.generations()


async def test_what_the_worker_cannot_compile_is_a_400_too(served: Served) -> None:
    """Its words, and the field that it blames."""
    refusal = Refusal(RefusalKind.INVALID_CONSTRAINT, "Invalid 'regex': unclosed group.", param="regex")
    served.admission.script = tells(Refused(refusal))
    status, _, body = await served.post("/v1/completions", {"model": "m", "prompt": "x", "regex": "(a"})
    assert status == 400
    assert body["error"] == {
        "message": "Invalid 'regex': unclosed group.",
        "type": "invalid_request_error",
        "param": "regex",
        "code": "invalid_constraint",
    }
