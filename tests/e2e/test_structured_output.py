"""Structured output through a served model, on both backends: what comes parses; what cannot be honoured is a 400."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from tests.support.asking import CHAT, FILES, TEXT, Asking, Json, guide, serving, text_of, texts, together, user
from tests.support.server import Server

BACKENDS = tuple(FILES)
HI = user("What is lmx?")
SERVER: Json = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "port": {"type": "integer", "minimum": 1, "maximum": 65535},
        "state": {"enum": ["loading", "ready", None]},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 1, "maxItems": 3},
        "fine": {"type": "boolean"},
    },
    "required": ["name", "port", "state", "tags"],
    "additionalProperties": False,
    "$defs": {"tag": {"type": "string", "pattern": "^[a-z]{1,8}$"}},
}
LARK = 'start: "lmx " ("serves" | "loads") " " NUMBER\nNUMBER: /[0-9]{1,3}/'
GBNF = 'root ::= answer ("," answer)?\nanswer ::= "yes" | "no"'


def schema(value: Any) -> Json:
    return {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": value}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    tables = [guide(name, file, context=1024, slots=8) for name, file in FILES.items()]
    with serving(tmp_path_factory.mktemp("structured"), *tables) as started:
        yield started


def whole(form: Json, text: str) -> bool:
    """Whether the text is what was asked for."""
    match form:
        case {"response_format": {"type": "json_object"}}:
            return isinstance(json.loads(text), dict)
        case {"response_format": wanted}:
            jsonschema.validate(json.loads(text), wanted["json_schema"]["schema"], jsonschema.Draft202012Validator)
            return True
        case {"choice": options}:
            return text in options
        case {"regex": pattern}:
            return re.fullmatch(pattern, text) is not None
    patterns = {LARK: "lmx (serves|loads) [0-9]{1,3}", GBNF: "(yes|no)(,(yes|no))?"}
    given = form["grammar"]
    return re.fullmatch(patterns[given if isinstance(given, str) else given["text"]], text) is not None


FORMS: dict[str, Json] = {
    "schema": {"response_format": schema(SERVER)},
    "anyOf": {"response_format": schema({"anyOf": [{"type": "boolean"}, {"type": "integer", "minimum": 10}]})},
    "regex": {"regex": "[A-F]{2}-[0-9]{4}(x|y)?"},
    "choice": {"choice": ["interactive", "batch", "größer\n"]},
    "lark": {"grammar": LARK},
    "lark by name": {"grammar": {"type": "lark", "text": LARK}},
    "gbnf": {"grammar": GBNF},
    "gbnf by name": {"grammar": {"type": "gbnf", "text": GBNF}},
}


@pytest.mark.parametrize("model", BACKENDS)
@pytest.mark.parametrize("form", FORMS)
async def test_what_comes_is_what_was_asked_for(server: Server, model: str, form: str) -> None:
    """Every kind, greedy, drawn, as several choices, streamed, and as a completion: the text is whole and matches."""
    asked = FORMS[form]
    async with Asking(server.url, model=model, max_tokens=300, **asked) as client:
        greedy = await client.ok(CHAT, messages=HI, temperature=0)
        drawn = await client.ok(CHAT, messages=HI, temperature=1.0, seed=3, n=4)
        text = await client.ok(TEXT, prompt="lmx is", temperature=1.0, seed=4)
        streamed = await client.streamed(CHAT, messages=HI, temperature=0)
    for reply in (greedy, drawn, text):
        assert {choice["finish_reason"] for choice in reply["choices"]} == {"stop"}, reply
        assert all(whole(asked, one) for one in texts(reply)), texts(reply)
    assert streamed == text_of(greedy)


@pytest.mark.parametrize("model", BACKENDS)
async def test_json_object_is_an_object(server: Server, model: str) -> None:
    """Whatever the model would rather say, the text is a JSON object, or the beginning of one that grew too long."""
    form = {"response_format": {"type": "json_object"}}
    async with Asking(server.url, model=model, max_tokens=120, temperature=0.7, **form) as client:
        replies = [await client.ok(CHAT, messages=HI, seed=seed, n=4) for seed in range(0, 12, 4)]
    choices = [choice for reply in replies for choice in reply["choices"]]
    ended = [choice["message"]["content"] for choice in choices if choice["finish_reason"] == "stop"]
    assert all(whole(form, text) for text in ended)
    assert all(choice["message"]["content"].lstrip().startswith("{") for choice in choices)
    assert ended


async def test_constraints_of_one_batch_stay_apart(server: Server) -> None:
    """All kinds at once beside unconstrained questions: each text matches its own, and the question is answered."""
    async with Asking(server.url, model="gguf", temperature=0, max_tokens=300) as client:
        free = await client.chat(HI)
        asked = [*FORMS.values(), {}] * 3
        answers = await together(*(client.chat(HI, **form) for form in asked), width=24)
    for form, text in zip(asked, answers, strict=True):
        assert whole(form, text) if form else text == free, (form, text)


REFUSED: list[tuple[Json, str, str]] = [
    ({"response_format": schema({"type": "array", "uniqueItems": True})}, "response_format", "uniqueItems"),
    ({"response_format": schema({"not": {"type": "string"}})}, "response_format", "not"),
    (
        {"response_format": schema({"if": {"type": "string"}, "then": {"maxLength": 3}})},
        "response_format",
        "if",
    ),
    ({"response_format": schema({"$ref": "#/$defs/none"})}, "response_format", "$defs/none"),
    ({"response_format": schema(False)}, "response_format.json_schema.schema", "object"),
    ({"regex": "(a"}, "regex", "pattern"),
    ({"grammar": "start: nothing"}, "grammar", "nothing"),
    ({"grammar": 'root ::= "a" other'}, "grammar", "other"),
    ({"choice": []}, "choice", "array"),
    ({"regex": "a+", "ignore_eos": True}, "ignore_eos", "ignore_eos"),
    ({"regex": "a+", "choice": ["a"]}, "choice", "Only one of 'regex', 'choice'"),
]


@pytest.mark.parametrize("model", BACKENDS)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_cannot_be_honoured_is_refused(server: Server, model: str, stream: bool) -> None:
    """A 400 that names field and keyword, also for a stream; the worker lives on."""
    worker = server.worker(model)
    async with Asking(server.url, model=model, stream=stream, max_tokens=20) as client:
        for form, param, word in REFUSED:
            error = await client.refused(CHAT, messages=HI, **form)
            assert error["type"] == "invalid_request_error"
            assert error["param"] == param, error
            assert word in error["message"], error
    assert server.worker(model) == worker
