"""Tools of a chat: what the model is shown, how it may call, and what comes back; bad ones are refused by name."""

import json
from typing import Any

import pytest

from lmx.actors.messages.client import Accepted, Delta, Finished, Refused
from lmx.http.errors import ApiError
from lmx.http.tools import Choice, Function, Rules, calling, templates
from lmx.machines.speech import Calling, Speech
from lmx.machines.types import Chat, FinishReason, Likely, Refusal, RefusalKind, TokenLogprob, Usage
from tests.http.conftest import Served
from tests.http.test_openai_schema import validate
from tests.support.dummies import Act, tells

CHAT = "/v1/chat/completions"
HI: Any = [{"role": "user", "content": "Hi"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
HERMES = Speech("hermes", "think")
CALL = '<tool_call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</tool_call>'


def function(name: str = "get_weather", **fields: Any) -> Any:
    return {"type": "function", "function": {"name": name, "parameters": CITY, **fields}}


def named(name: str) -> Any:
    return {"type": "function", "function": {"name": name}}


def asks(**fields: Any) -> Any:
    return {"model": "m", "messages": HI, "tools": [function(), function("get_time")], **fields}


def speaks(*texts: str, speech: Speech = HERMES, reason: FinishReason = "stop", thoughts: int = 0) -> Act:
    """A model with habits."""
    finished = Finished(reason, Usage(5, len(texts), 0, thoughts))
    return tells(Accepted(5, speech=speech), *map(Delta, texts), finished)


async def events(served: Served, asked: Any) -> list[Any]:
    """The chunks of a stream, each valid."""
    async with served.http.post(CHAT, json=asked | {"stream": True}) as reply:
        text = (await reply.read()).decode()
    chunks = [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line.startswith("data: {")]
    for chunk in chunks:
        validate(chunk, "CreateChatCompletionStreamResponse")
    return chunks


def deltas(chunks: list[Any]) -> list[Any]:
    return [choice["delta"] for chunk in chunks for choice in chunk["choices"]]


async def test_a_call_is_the_whole_message(served: Served) -> None:
    """Content is null beside calls alone; each has an id of its own, and the reason to end is the call."""
    served.admission.script = speaks(CALL[:20], CALL[20:], CALL.replace("Oslo", "Rom"))
    _, _, body = await served.post(CHAT, asks())
    validate(body, "CreateChatCompletionResponse")
    (choice,) = body["choices"]
    first, second = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["refusal"] is None
    assert "reasoning_content" not in choice["message"]
    assert (first["type"], first["function"]["name"]) == ("function", "get_weather")
    assert json.loads(first["function"]["arguments"]) == {"city": "Oslo"}
    assert first["id"].startswith("call_")
    assert len(first["id"]) >= 24
    assert first["id"] != second["id"]


@pytest.mark.parametrize("broken", [CALL.replace('"Oslo"', "Oslo"), CALL[:-20]])
@pytest.mark.parametrize("before", ["", CALL])
async def test_a_broken_call_is_not_to_be_called(served: Served, before: str, broken: str) -> None:
    """Malformed or cut off by a stop string: the reason to end does not tell clients to run what is there."""
    served.admission.script = speaks(before, broken)
    _, _, body = await served.post(CHAT, asks())
    (choice,) = body["choices"]
    assert choice["finish_reason"] == "stop"
    assert len(choice["message"]["tool_calls"]) == (2 if before else 1)
    chunks = await events(served, asks())
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_an_answer_beside_a_call_is_kept(served: Served) -> None:
    """Text and calls may come together; without calls there is no such field."""
    served.admission.script = speaks("I look.", CALL)
    _, _, body = await served.post(CHAT, asks())
    assert body["choices"][0]["message"]["content"] == "I look."
    served.admission.script = speaks("No.")
    _, _, body = await served.post(CHAT, asks())
    message = body["choices"][0]["message"]
    assert (message["content"], "tool_calls" in message, body["choices"][0]["finish_reason"]) == ("No.", False, "stop")


async def test_thoughts_are_told_apart(served: Served) -> None:
    """Under both names that clients look for; usage counts them; the answer is only the answer."""
    served.admission.script = speaks("<think>\nA tool?", " No.</think>", "\n\nHello", thoughts=4)
    _, _, body = await served.post(CHAT, {"model": "m", "messages": HI})
    validate(body, "CreateChatCompletionResponse")
    message = body["choices"][0]["message"]
    assert message["reasoning_content"] == message["reasoning"] == "A tool? No."
    assert message["content"] == "Hello"
    assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] == 4


async def test_an_answer_that_ends_in_its_thoughts_is_empty(served: Served) -> None:
    """An empty string, since nothing came in its place."""
    served.admission.script = speaks("<think>So", reason="length")
    _, _, body = await served.post(CHAT, asks())
    assert body["choices"][0]["message"]["content"] == ""
    assert body["choices"][0]["finish_reason"] == "length"
    chunks = await events(served, asks())
    assert "".join(delta.get("content") or "" for delta in deltas(chunks)) == ""
    assert deltas(chunks)[-1] == {"content": ""}


async def test_a_streamed_call_begins_with_its_name(served: Served) -> None:
    """As OpenAI streams it: id, type, name and empty arguments first, then pieces of the arguments; content null."""
    served.admission.script = speaks(*CALL, *CALL)
    chunks = await events(served, asks(stream_options={"include_usage": True}))
    first, *middle, last = deltas(chunks)
    assert first == {"role": "assistant", "content": None, "refusal": None}
    assert last == {}
    assert [choice["finish_reason"] for choice in chunks[-2]["choices"]] == ["tool_calls"]
    calls = [piece for delta in middle for piece in delta["tool_calls"]]
    begun = [piece for piece in calls if "id" in piece]
    assert [(piece["index"], piece["type"]) for piece in begun] == [(0, "function"), (1, "function")]
    assert [piece["function"] for piece in begun] == [{"name": "get_weather", "arguments": ""}] * 2
    for index in (0, 1):
        pieces = [piece["function"]["arguments"] for piece in calls if piece["index"] == index]
        assert json.loads("".join(pieces)) == {"city": "Oslo"}
        assert len(pieces) >= 2
    assert {frozenset(piece) for piece in calls if "id" not in piece} == {frozenset({"index", "function"})}


async def test_streamed_thoughts_come_before_the_answer(served: Served) -> None:
    """In deltas of their own, under both names; the role comes first with an empty content."""
    served.admission.script = speaks("<think>A", "B</think>", "C", "D")
    first, *middle, last = deltas(await events(served, {"model": "m", "messages": HI}))
    assert (first["content"], last) == ("", {})
    kinds = [tuple(delta) for delta in middle]
    assert sorted(kinds, reverse=True) == kinds
    assert set(kinds) == {("reasoning_content", "reasoning"), ("content",)}
    told = {name: "".join(delta.get(name, "") for delta in middle) for name in ("reasoning_content", "reasoning")}
    assert told == {"reasoning_content": "AB", "reasoning": "AB"}
    assert "".join(delta.get("content", "") for delta in middle) == "CD"


async def test_log_probabilities_are_of_all_tokens(served: Served) -> None:
    """Those of marks, thoughts and calls too: none is lost, whole or streamed."""
    texts = ["<think>", "A", "</think>", "B"]
    tokens = [TokenLogprob(i, text.encode(), -0.5, (Likely(i, text.encode(), -0.5),)) for i, text in enumerate(texts)]
    pieces = [Delta(text, (token,)) for text, token in zip(texts, tokens, strict=True)]
    served.admission.script = tells(Accepted(5, speech=HERMES), *pieces, Finished("stop", Usage(5, 4)))
    asked = {"model": "m", "messages": HI, "logprobs": True, "top_logprobs": 1}
    _, _, body = await served.post(CHAT, asked)
    assert [token["token"] for token in body["choices"][0]["logprobs"]["content"]] == texts
    chunks = await events(served, asked)
    told = [choice["logprobs"] for chunk in chunks for choice in chunk["choices"] if choice["logprobs"]]
    assert [token["token"] for likely in told for token in likely["content"]] == texts


async def test_choices_speak_for_themselves(served: Served) -> None:
    """With n > 1 each choice has its own calls, with ids of their own."""
    served.admission.script = speaks(CALL)
    _, _, body = await served.post(CHAT, asks(n=2))
    ids = {call["id"] for choice in body["choices"] for call in choice["message"]["tool_calls"]}
    assert len(ids) == 2
    chunks = await events(served, asks(n=2))
    begun = [
        (c["index"], c["delta"]["tool_calls"][0]) for x in chunks for c in x["choices"] if "tool_calls" in c["delta"]
    ]
    assert sorted(index for index, piece in begun if "id" in piece) == [0, 1]


async def test_a_model_that_knows_no_tools_is_quoted(served: Served) -> None:
    """Without tools in the request a call's marks are text, and nothing is held back for them."""
    served.admission.script = speaks(CALL)
    _, _, body = await served.post(CHAT, {"model": "m", "messages": HI})
    assert body["choices"][0]["message"]["content"] == CALL


CHOICES: list[tuple[Any, bool | None, Calling | None]] = [
    (None, None, None),
    ("auto", None, None),
    ("auto", False, Calling(parallel=False)),
    ("none", None, None),
    ("required", None, Calling(required=True)),
    ("required", False, Calling(required=True, parallel=False)),
    (named("get_time"), None, Calling(required=True, only=("get_time",), parallel=False)),
    (
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [named("get_time")]}},
        True,
        Calling(only=("get_time",)),
    ),
    (
        {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named("get_time")] * 2}},
        None,
        Calling(required=True, only=("get_time",)),
    ),
]


@pytest.mark.parametrize(("choice", "parallel", "expected"), CHOICES)
async def test_a_choice_reaches_the_model(
    served: Served, choice: Any, parallel: bool | None, expected: Calling | None
) -> None:
    """`tool_choice` and `parallel_tool_calls` become a Calling; `none` shows the model no tools."""
    status, _, _ = await served.post(CHAT, asks(tool_choice=choice, parallel_tool_calls=parallel))
    assert status == 200
    (generation,) = served.admission.generations()
    assert isinstance(generation.prompt, Chat)
    assert generation.calling == expected
    assert len(generation.prompt.tools) == (0 if choice == "none" else 2)


async def test_tools_reach_the_template(served: Served) -> None:
    """With name, description, parameters and strict; without parameters a function takes none."""
    closed = CITY | {"additionalProperties": False}
    given = [
        function(description="Weather.", strict=True, parameters=closed),
        {"type": "function", "function": {"name": "now", "strict": None, "description": None}},
        {"type": "function", "function": {"name": "any", "parameters": {}, "strict": False}},
    ]
    await served.post(CHAT, asks(tools=given))
    (generation,) = served.admission.generations()
    assert isinstance(generation.prompt, Chat)
    assert [tool["function"] for tool in generation.prompt.tools] == [
        {"name": "get_weather", "description": "Weather.", "parameters": closed, "strict": True},
        {"name": "now", "parameters": {"type": "object", "properties": {}}},
        {"name": "any", "parameters": {"type": "object"}},
    ]
    assert {tool["type"] for tool in generation.prompt.tools} == {"function"}


REFUSED = [
    ("thinking", {"reasoning_effort": "low"}, "reasoning_effort"),
    ("thinking", {"enable_thinking": True}, "enable_thinking"),
    ("thinking", {"thinking": {"type": "enabled"}}, "thinking"),
    ("thinking", {"chat_template_kwargs": {"thinking_budget": 5}}, "chat_template_kwargs.thinking_budget"),
    ("tools", {}, "tools"),
    ("messages", {}, "messages"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("param", "sent", "told"), REFUSED)
async def test_what_a_model_cannot_do_is_named_as_it_was_sent(
    served: Served, param: str, sent: Any, told: str, stream: bool
) -> None:
    """A worker knows no fields of routes: its refusal names the one that the client used."""
    served.admission.script = tells(Refused(Refusal(RefusalKind.UNSUPPORTED, "It cannot.", param=param)))
    status, _, body = await served.post(CHAT, asks(stream=stream, **sent))
    assert (status, body["error"]["code"], body["error"]["param"]) == (400, "unsupported_parameter", told)


def nested(levels: int) -> Any:
    return [nested(levels - 1)] if levels else []


def params(**fields: Any) -> Any:
    return asks(tools=[function(parameters=fields)])


LONG_NAME = "Expected a string with maximum length 64, but got a string with length 65 instead."
BAD: list[tuple[str, Any, str | None, str | None, str]] = [
    (
        "B36",
        asks(tools=[function(f"f{i}") for i in range(158)]),
        "array_above_max_length",
        "tools",
        "128, but got an a",
    ),
    ("B49", asks(tools=None, tool_choice="none"), None, "tool_choice", "only allowed when 'tools' are specified."),
    ("B49", asks(tools=None, tool_choice=named("x")), None, "tool_choice", "'tool_choice' is only allowed"),
    ("B49", asks(tools=None, parallel_tool_calls=True), None, "parallel_tool_calls", "only allowed when 'tools'"),
    ("B50", asks(tools=[]), "empty_array", "tools", "Invalid 'tools': empty array."),
    ("B51", asks(tool_choice=named("x")), "invalid_value", "tool_choice", "'x' not found in 'tools'"),
    (
        "B51",
        asks(tool_choice="sometimes"),
        "invalid_value",
        "tool_choice",
        "Supported values are: 'none', 'auto', 'requ",
    ),
    ("B51", asks(tool_choice=42), "invalid_type", "tool_choice", "one of a string or an object, but got an integer"),
    ("B51", asks(tool_choice={"type": "any"}), "invalid_value", "tool_choice.type", "'function', 'allowed_tools'"),
    ("B51", asks(tool_choice={"type": "function"}), "missing_required_parameter", "tool_choice.function", ""),
    (
        "B51",
        asks(tool_choice={"type": "custom", "custom": {"name": "x"}}),
        "unsupported_parameter",
        "tool_choice.custom",
        "",
    ),
    (
        "B51",
        asks(tool_choice={"type": "allowed_tools", "allowed_tools": {"mode": "none", "tools": [named("x")]}}),
        "invalid_value",
        "tool_choice.allowed_tools.mode",
        "'auto', 'required'",
    ),
    (
        "B51",
        asks(tool_choice={"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}),
        "empty_array",
        "tool_choice.allowed_tools.tools",
        "",
    ),
    ("B52", asks(tools=[function("a b")]), "invalid_value", "tools[0].function.name", "'^[a-zA-Z0-9_-]+$'"),
    ("B52", asks(tools=[function("a\n")]), "invalid_value", "tools[0].function.name", "does not match pattern"),
    ("B52", asks(tools=[function("")]), "empty_string", "tools[0].function.name", ""),
    ("B52", asks(tools=[function("x" * 65)]), "string_above_max_length", "tools[0].function.name", LONG_NAME),
    (
        "B52",
        asks(tools=[function("a"), function("a")]),
        "invalid_value",
        "tools[1].function.name",
        "already a function",
    ),
    (
        "B52",
        asks(tools=[function(description="x" * 1025)]),
        "string_above_max_length",
        "tools[0].function.description",
        "string too long. Expected a string with maximum length 1024",
    ),
    ("B76", params(items=nested(100)), "invalid_function_parameters", "tools[0].function.parameters", "64 levels"),
    (
        "tools",
        asks(tools=[{"type": "custom", "custom": {"name": "x"}}]),
        "unsupported_parameter",
        "tools[0].custom",
        "",
    ),
    (
        "tools",
        asks(tools=[{"type": "web_search"}]),
        "invalid_value",
        "tools[0].type",
        "Supported values are: 'function'",
    ),
    ("tools", asks(tools=[{"function": {"name": "f"}}]), "missing_required_parameter", "tools[0].type", ""),
    ("tools", asks(tools=[{"type": "function"}]), "missing_required_parameter", "tools[0].function", ""),
    ("tools", asks(tools=[named("f") | {"x": 1}]), "unknown_parameter", "tools[0].x", ""),
    ("tools", asks(tools={}), "invalid_type", "tools", "expected an array"),
    ("tools", asks(tools=[function(strict="yes")]), "invalid_type", "tools[0].function.strict", "a boolean"),
    ("tools", asks(tools=[function(parameters=[])]), "invalid_type", "tools[0].function.parameters", "an object"),
    (
        "tools",
        params(type="string"),
        "invalid_function_parameters",
        "tools[0].function.parameters",
        "got 'type: 'string",
    ),
    ("tools", params(maxLength=10**9), "invalid_function_parameters", "tools[0].function.parameters", "'maxLength'"),
    (
        "tools",
        asks(tools=[function(strict=True)]),
        "invalid_function_parameters",
        "tools[0].function.parameters",
        "In context=(), 'additionalProperties' is required to be supplied and to be false.",
    ),
    ("tools", asks(functions=[{"name": "f"}]), "unsupported_parameter", "functions", ""),
    ("tools", asks(function_call="auto"), "unsupported_parameter", "function_call", ""),
]


@pytest.mark.parametrize(("sent", "code", "param", "text"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
async def test_bad_tools_are_refused_by_name(
    served: Served, sent: Any, code: str | None, param: str, text: str
) -> None:
    """RELIABILITY B36, B49 to B52, B76: in OpenAI's words, and no model hears of it."""
    status, _, body = await served.post(CHAT, sent)
    assert (status, body["error"]["type"]) == (400, "invalid_request_error"), body
    assert (body["error"]["code"], body["error"]["param"]) == (code, param), body
    assert text in body["error"]["message"]
    validate(body, "ErrorResponse")
    assert served.admission.messages == []


def test_other_apis_have_rules_of_their_own() -> None:
    """Longer names and descriptions, another name of the schema, strict functions that are not closed."""
    rules = Rules(name=128, description=None, parameters="input_schema", closed=False)
    (tool,) = templates([Function("x" * 100, "d" * 5000, CITY, True)], "tools[{}]", rules)
    assert tool["function"]["description"] == "d" * 5000
    with pytest.raises(ApiError) as caught:
        templates([Function("f", None, {"type": "array"})], "tools[{}]", rules)
    assert caught.value.error.param == "tools[0].input_schema"


def test_a_choice_of_nothing_special_is_none() -> None:
    """Without a Calling the model calls as it likes."""
    tools = templates([Function("f")])
    assert calling(Choice(), tools) is None
    assert calling(Choice("none", (), False), tools) is None
    assert calling(Choice("auto", (), False), tools) == Calling(parallel=False)
