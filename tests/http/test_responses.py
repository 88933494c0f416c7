"""POST /v1/responses: what is asked of the model, what the client is told, in one piece and as it comes."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from lmx.actors.messages.admission import Cancel
from lmx.actors.messages.client import Accepted, Delta, Failed, Finished, Refused
from lmx.http.responses.request import KNOWN, ResponseRequest
from lmx.machines.speech import Calling, Speech, Thinking
from lmx.machines.types import (
    Chat,
    Constraint,
    Failure,
    FailureKind,
    FinishReason,
    Likely,
    Refusal,
    RefusalKind,
    TokenLogprob,
    Usage,
)
from tests.http.conftest import Serve, Served
from tests.http.test_images import data_url
from tests.http.test_openai_schema import properties, validate
from tests.support.dummies import Act, fails, gate, refuses, says, talks_until_cancelled, tells, waits
from tests.support.projector import png

URL = "/v1/responses"
HERMES = Speech(calls="hermes", thoughts="think")
ADD = {"type": "function", "name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


def writes(*texts: str, speech: Speech = HERMES, reason: FinishReason = "stop") -> Act:
    """Accept, write what is more than an answer, finish."""
    return tells(Accepted(5, speech=speech), *map(Delta, texts), Finished(reason, Usage(5, len(texts), 3, 2)))


async def create(served: Served, **fields: Any) -> Any:
    status, _, body = await served.post(URL, {"model": "m", "input": "Hi"} | fields)
    assert status == 200, body
    validate(body, "Response")
    return body


async def refused(served: Served, **fields: Any) -> tuple[int, Any]:
    status, _, body = await served.post(URL, {"model": "m", "input": "Hi"} | fields)
    validate(body, "ErrorResponse")
    return status, body["error"]


async def events(served: Served, each: Callable[[], None] = lambda: None, **fields: Any) -> list[Any]:
    """Those of a streamed response; all of them are numbered, named on their own line, and valid."""
    found, name = [], ""
    async with served.http.post(URL, json={"model": "m", "input": "Hi", "stream": True} | fields) as reply:
        assert reply.status == 200, await reply.text()
        async for line in reply.content:
            each()
            kind, _, rest = line.decode().rstrip("\n").partition(": ")
            if kind == "event":
                name = rest
            elif kind == "data":
                found.append(json.loads(rest))
                assert found[-1]["type"] == name
                validate(found[-1], "ResponseStreamEvent")
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def chat(served: Served) -> Chat:
    """What the model was asked last."""
    prompt = served.admission.generations()[-1].prompt
    assert isinstance(prompt, Chat)
    return prompt


def kinds(told: Sequence[Any]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in told]


async def test_a_text(served: Served) -> None:
    """The reply is complete: nulls included, usage with details, one message of one text."""
    served.admission.script = says("Hello", " world", prompt=5, cached=2)
    body = await create(served)
    (item,) = body["output"]
    part = {"type": "output_text", "text": "Hello world", "annotations": [], "logprobs": []}
    assert item == {"type": "message", "id": item["id"], "role": "assistant", "status": "completed", "content": [part]}
    assert body["id"].startswith("resp_")
    assert item["id"].startswith("msg_")
    usage = {"input_tokens": 5, "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0}}
    usage |= {"output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 7}
    assert body["usage"] == usage
    assert (body["status"], body["error"], body["incomplete_details"]) == ("completed", None, None)
    assert (body["temperature"], body["top_p"], body["store"], body["tool_choice"]) == (1.0, 1.0, False, "auto")
    assert body["text"] == {"format": {"type": "text"}, "verbosity": "medium"}


async def test_thoughts_text_and_calls(served: Served) -> None:
    """Each becomes an item of its own, in the order in which they were written."""
    served.admission.script = writes("<think>Hm", "m.</think>\n\nI add.\n", CALL[:20], CALL[20:])
    body = await create(served, tools=[ADD])
    thought, message, call = body["output"]
    assert thought["content"] == [{"type": "reasoning_text", "text": "Hmm."}]
    assert thought["summary"] == []
    assert thought["id"].startswith("rs_")
    assert message["content"][0]["text"] == "I add."
    assert call == call | {"type": "function_call", "name": "add", "arguments": '{"a": 1}', "status": "completed"}
    assert call["id"].startswith("fc_")
    assert call["call_id"].startswith("call_")
    assert body["usage"]["output_tokens_details"] == {"reasoning_tokens": 2}


async def test_a_stream(served: Served) -> None:
    """Created, in progress, each item from added to done, completed; what is told in pieces is what is told at once."""
    served.admission.script = writes("<think>Hm", "m.</think>\n\nI add.\n", CALL)
    told = await events(served, tools=[ADD])
    thought = ["output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.done"]
    thought += ["content_part.done", "output_item.done"]
    message = ["output_item.added", "content_part.added", "output_text.delta", "output_text.done"]
    message += ["content_part.done", "output_item.done"]
    call = ["output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"]
    assert kinds(told) == ["created", "in_progress", *thought, *message, *call, "completed"]
    done = [event["item"] for event in told if event["type"] == "response.output_item.done"]
    assert told[-1]["response"]["output"] == done
    deltas = "".join(event["delta"] for event in told if event["type"] == "response.function_call_arguments.delta")
    assert deltas == done[2]["arguments"] == '{"a": 1}'
    assert {event["response"]["id"] for event in told if "response" in event} == {told[0]["response"]["id"]}


async def test_a_call_that_never_ends(served: Served) -> None:
    """What was told of it stays, as an incomplete item; the stream goes on to its end."""
    served.admission.script = writes(CALL[:-16])
    told = await events(served, tools=[ADD])
    response = told[-1]["response"]
    assert (told[-1]["type"], response["output"][0]["status"]) == ("response.completed", "incomplete")
    assert (await create(served, tools=[ADD]))["output"][0]["arguments"] == response["output"][0]["arguments"]


@pytest.mark.parametrize("stream", [False, True])
async def test_no_room_is_told(served: Served, stream: bool) -> None:
    """A response that was cut off is incomplete, and so is its last item."""
    served.admission.script = says("Hello", reason="length")
    if stream:
        told = await events(served, max_output_tokens=16)
        assert told[-1]["type"] == "response.incomplete"
        body = told[-1]["response"]
    else:
        body = await create(served, max_output_tokens=16)
    assert (body["status"], body["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert body["output"][-1]["status"] == "incomplete"
    assert body["max_output_tokens"] == 16


async def test_an_empty_text_is_a_message(served: Served) -> None:
    """A response has an item, whatever the model wrote."""
    served.admission.script = says()
    assert (await create(served))["output"][0]["content"][0]["text"] == ""
    assert "output_text.delta" not in kinds(await events(served))


async def test_a_failure_in_the_stream(served: Served) -> None:
    """`error` tells what went wrong, `response.failed` ends the stream with all that was written."""
    with gate() as broken:
        end = tells(Failed(Failure(FailureKind.WORKER_DIED, "It broke.")))
        served.admission.script = waits(broken, end, (Accepted(5), Delta("Hello")))
        told = await events(served, each=broken.set)
    assert kinds(told)[-3:] == ["output_text.delta", "error", "failed"]
    assert (told[-2]["code"], told[-2]["message"]) == ("worker_died", "It broke.")
    response = told[-1]["response"]
    assert response["error"] == {"code": "server_error", "message": "It broke."}
    assert response["status"] == "failed"
    assert response["output"][0]["content"][0]["text"] == "Hello"


async def test_a_refusal_in_the_stream(serve: Serve) -> None:
    """One that comes when the headers are out already is told as an error too, after the beginning."""
    served = await serve(heartbeat_seconds=0.01)
    with gate() as broken:
        served.admission.script = waits(broken, refuses(RefusalKind.QUEUE_TIMEOUT))
        told = await events(served, each=broken.set)
    assert kinds(told) == ["created", "in_progress", "error", "failed"]
    assert told[2]["code"] == "queue_timeout"
    assert told[3]["response"]["error"]["code"] == "rate_limit_exceeded"


async def test_a_failure_without_a_stream(served: Served) -> None:
    """It has its HTTP status."""
    served.admission.script = fails(FailureKind.WORKER_DIED, "Hello")
    status, error = await refused(served)
    assert (status, error["code"]) == (500, "worker_died")


async def test_a_refusal_names_the_field_of_this_route(served: Served) -> None:
    """What the model says of messages is said of the input; also where a stream was asked for."""
    served.admission.script = refuses(RefusalKind.CONTEXT_LENGTH_EXCEEDED)
    for stream in (False, True):
        status, error = await refused(served, stream=stream)
        assert (status, error["code"], error["param"]) == (400, "context_length_exceeded", "input")


@pytest.mark.parametrize(
    ("sentence", "theirs", "ours"),
    [
        ("Invalid '{}': no.", "tools[1].function.parameters", "tools[1].parameters"),
        ("Invalid '{}': no.", "response_format", "text.format"),
        ("This model's template knows no '{}'.", "reasoning_effort", "reasoning.effort"),
    ],
)
async def test_what_the_worker_refuses_is_named_as_it_was_sent(
    served: Served, sentence: str, theirs: str, ours: str
) -> None:
    """In `param` and in the sentence: chats nest what this API does not, and call it otherwise."""
    refusal = Refusal(RefusalKind.INVALID_CONSTRAINT, sentence.format(theirs), param=theirs)
    served.admission.script = tells(Refused(refusal))
    status, error = await refused(served)
    assert (status, error["param"], error["message"]) == (400, ours, sentence.format(ours))


@pytest.mark.parametrize(
    ("field", "value", "instead"),
    [
        ("messages", [{"role": "user", "content": "Hi"}], "input"),
        ("response_format", {"type": "json_object"}, "text.format"),
        ("reasoning_effort", "low", "reasoning.effort"),
        ("max_tokens", 5, "max_output_tokens"),
    ],
)
async def test_a_field_of_chats_is_told_where_it_went(served: Served, field: str, value: Any, instead: str) -> None:
    """As OpenAI tells it: the field that was sent is the one that is wrong."""
    status, error = await refused(served, **{field: value})
    assert (status, error["code"], error["param"]) == (400, "unsupported_parameter", field)
    assert f"has moved to '{instead}'" in error["message"]
    assert served.admission.submits() == []


async def test_log_probabilities(served: Served) -> None:
    """With the include they are told with each piece of the text, never with a thought's."""
    row = [TokenLogprob(1, text, -0.5, (Likely(1, text, -0.5),)) for text in (b"<think>", b"x", b"</think>", b"Hi")]
    written = [Delta("<think>", (row[0],)), Delta("x", (row[1],)), Delta("</think>", (row[2],)), Delta("Hi", (row[3],))]
    served.admission.script = tells(Accepted(5, speech=HERMES), *written, Finished("stop", Usage(5, 4)))
    asked: dict[str, Any] = {"include": ["message.output_text.logprobs"], "top_logprobs": 1}
    body = await create(served, **asked)
    assert served.admission.generations()[0].logprobs == 1
    assert [token["token"] for token in body["output"][1]["content"][0]["logprobs"]] == ["Hi"]
    told = await events(served, **asked)
    (delta,) = [event for event in told if event["type"] == "response.output_text.delta"]
    assert [token["token"] for token in delta["logprobs"]] == ["Hi"]


async def test_log_probabilities_of_a_text_that_a_mark_holds_too(served: Served) -> None:
    """An answer that begins with letters of the mark before it has those of its own token."""
    texts = ("x", "</think>", "in", " time")
    row = [TokenLogprob(1, text.encode(), -0.5) for text in texts]
    written = [Delta(token.text.decode(), (token,)) for token in row]
    opened = Speech(calls="hermes", thoughts="think", opened=True)
    served.admission.script = tells(Accepted(5, speech=opened), *written, Finished("stop", Usage(5, 4)))
    body = await create(served, include=["message.output_text.logprobs"])
    assert [token["token"] for token in body["output"][1]["content"][0]["logprobs"]] == ["in", " time"]


async def test_log_probabilities_of_a_text_that_ends_within_a_character(served: Served) -> None:
    """The tokens before the answer are not told with it, though what its last ones spell is not its text."""
    row = tuple(TokenLogprob(1, text, -0.5) for text in (b"x", b"</think>", b"Hi ", b"\xf0", b"\x9f"))
    opened = Speech(calls="hermes", thoughts="think", opened=True)
    written = Delta("x</think>Hi \ufffd", row)
    served.admission.script = tells(Accepted(5, speech=opened), written, Finished("length", Usage(5, 5)))
    body = await create(served, include=["message.output_text.logprobs"])
    assert [token["bytes"] for token in body["output"][1]["content"][0]["logprobs"]] == [[*b"Hi "], [0xF0], [0x9F]]


async def test_what_the_model_is_asked(served: Served) -> None:
    """Every field that can be honoured reaches the model."""
    format = {"type": "json_schema", "name": "x", "schema": {"type": "object"}, "strict": True}
    body = await create(
        served,
        instructions="Be brief.",
        max_output_tokens=20,
        temperature=0.5,
        top_p=0.9,
        top_k=3,
        seed=7,
        tools=[ADD],
        tool_choice="required",
        parallel_tool_calls=False,
        reasoning={"effort": "low", "summary": "auto"},
        text={"format": format, "verbosity": "medium"},
        truncation="auto",
        service_tier="flex",
        metadata={"a": "b"},
        user="u",
        safety_identifier="s",
        prompt_cache_key="k",
        stop=["END"],
        max_tool_calls=3,
    )
    (asked,) = served.admission.generations()
    prompt = chat(served)
    assert prompt.messages == ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"})
    assert prompt.thinking == Thinking(effort="low")
    assert prompt.tools[0]["function"] == {"name": "add", "parameters": ADD["parameters"]}
    assert asked.calling == Calling(required=True, parallel=False)
    assert asked.constraint == Constraint("json_schema", '{"type":"object"}')
    assert (asked.max_tokens, asked.truncate, asked.priority, asked.stop) == (20, "oldest", "batch", ("END",))
    assert (asked.sampling.temperature, asked.sampling.top_k, asked.sampling.seed) == (0.5, 3, 7)
    assert body["text"]["format"] == format
    assert body["reasoning"] == {"effort": "low", "summary": None}
    assert (body["metadata"], body["user"], body["service_tier"]) == ({"a": "b"}, "u", "flex")
    assert body["tools"][0]["strict"] is False


async def test_items_become_messages(served: Served) -> None:
    """One turn of the model is one message, whatever items it came in; developers are the system."""
    items: list[Any] = [
        {"role": "developer", "content": "Do this."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "1+"}, INPUT_1]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "I add.", "annotations": []}]},
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}", "status": None},
        {"type": "function_call", "call_id": "c2", "name": "add", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "2"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "3"}]},
    ]
    await create(served, instructions="Be brief.", input=items, tools=[ADD])
    function = {"name": "add", "arguments": "{}"}
    calls = [{"id": id, "type": "function", "function": function} for id in ("c1", "c2")]
    assert list(chat(served).messages) == [
        {"role": "system", "content": "Be brief.\n\nDo this."},
        {"role": "user", "content": "1+1"},
        {"role": "assistant", "content": "I add.", "reasoning_content": "Hm.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
        {"role": "tool", "tool_call_id": "c2", "content": "3"},
    ]


async def test_the_answer_to_a_call_comes_right_behind_it(served: Served) -> None:
    """Also where the model went on after it had called: many templates know no other order."""
    call = {"type": "function_call", "name": "add", "arguments": "{}"}
    items: list[Any] = [
        {"role": "assistant", "content": "First."},
        call | {"call_id": "c1"},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {"role": "assistant", "content": "And."},
        call | {"call_id": "c2"},
        *({"type": "function_call_output", "call_id": id, "output": "2"} for id in ("c1", "c2")),
        {"role": "assistant", "content": "Two."},
    ]
    await create(served, input=items, tools=[ADD])
    told = [(message["role"], message["content"]) for message in chat(served).messages]
    assert told == [("assistant", "First.\n\nAnd."), ("tool", "2"), ("tool", "2"), ("assistant", "Two.")]
    assert chat(served).messages[0]["reasoning_content"] == "Hm."
    assert [one["id"] for one in chat(served).messages[0]["tool_calls"]] == ["c1", "c2"]


INPUT_1 = {"type": "input_text", "text": "1"}


async def test_images(served: Served) -> None:
    """They are data URLs that reach the model as files, in their places; only users have them."""
    content = [INPUT_1, {"type": "input_image", "image_url": data_url(png(1)), "detail": "low"}]
    await create(served, input=[{"role": "user", "content": content}])
    assert chat(served).images == (png(1),)
    assert chat(served).messages[0]["content"] == [{"type": "text", "text": "1"}, {"type": "image"}]
    broken = [INPUT_1, {"type": "input_image", "image_url": "data:image/png,abc"}]
    status, error = await refused(served, input=[{"role": "user", "content": broken}])
    assert (status, error["param"]) == (400, "input[0].content[1]")
    status, error = await refused(served, input=[{"role": "system", "content": content}])
    assert (status, error["param"]) == (400, "input[0].content")
    served.admission.script = tells(Refused(Refusal(RefusalKind.UNSUPPORTED, "It is blind.", param="messages")))
    status, error = await refused(served, input=[{"role": "user", "content": content}])
    assert (status, error["param"]) == (400, "input[0].content[1]")


async def test_thoughts_travel_through_clients_without_a_store(served: Served) -> None:
    """What `reasoning.encrypted_content` gives, and only that, is understood when it comes back."""
    served.admission.script = writes("<think>Hm.</think>Hi")
    body = await create(served, include=["reasoning.encrypted_content"], store=False)
    seal = body["output"][0]["encrypted_content"]
    back = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": seal}
    await create(served, input=[{"role": "user", "content": "Hi"}, back, {"role": "assistant", "content": "Hi"}])
    assert chat(served).messages[1] == {"role": "assistant", "content": "Hi", "reasoning_content": "Hm."}
    status, error = await refused(served, input=[back | {"encrypted_content": "gAAAA"}])
    assert (status, error["code"]) == (400, "invalid_encrypted_content")


@pytest.mark.parametrize(
    ("choice", "calling", "shown"),
    [
        ("none", None, 0),
        ("auto", None, 2),
        ("required", Calling(required=True), 2),
        ({"type": "function", "name": "add"}, Calling(required=True, only=("add",), parallel=False), 2),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "add"}]},
            Calling(only=("add",)),
            2,
        ),
    ],
)
async def test_tool_choice(served: Served, choice: Any, calling: Calling | None, shown: int) -> None:
    """Each form of it; with `none` the model does not see the tools."""
    body = await create(served, tools=[ADD, ADD | {"name": "sub"}], tool_choice=choice)
    assert served.admission.generations()[0].calling == calling
    assert len(chat(served).tools) == shown
    assert body["tool_choice"] == choice


BAD: list[tuple[dict[str, Any], int, str | None, str | None]] = [
    ({"input": None}, 400, "missing_required_parameter", "input"),
    ({"input": []}, 400, "empty_array", "input"),
    ({"input": 5}, 400, "invalid_type", "input"),
    ({"input": [{"role": "robot", "content": "x"}]}, 400, "invalid_value", "input[0].role"),
    ({"input": [{"role": "user"}]}, 400, "missing_required_parameter", "input[0].content"),
    ({"input": [{"type": "web_search_call", "id": "x"}]}, 400, "unsupported_parameter", "input[0].type"),
    ({"input": [{"type": "nonsense"}]}, 400, "invalid_value", "input[0].type"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
        400,
        "unsupported_parameter",
        "input[0].content[0].type",
    ),
    ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, 400, None, "input"),
    ({"input": [{"type": "function_call", "call_id": "c", "name": "x", "arguments": "{}"}]}, 400, None, "input"),
    ({"input": [{"type": "item_reference", "id": "msg_x"}]}, 404, None, "input[0].id"),
    ({"tools": [{"type": "web_search"}]}, 400, "unsupported_parameter", "tools[0].type"),
    ({"tools": [{"type": "function", "name": "a b"}]}, 400, "invalid_value", "tools[0].name"),
    ({"tool_choice": "required"}, 400, None, "tool_choice"),
    ({"tools": [ADD], "tool_choice": {"type": "function", "name": "x"}}, 400, "invalid_value", "tool_choice"),
    ({"tools": [ADD], "tool_choice": {"type": "mcp"}}, 400, "unsupported_parameter", "tool_choice.type"),
    ({"text": {"verbosity": "low"}}, 400, "unsupported_parameter", "text.verbosity"),
    ({"text": {"format": {"type": "xml"}}}, 400, "invalid_value", "text.format.type"),
    (
        {"text": {"format": {"type": "json_schema", "name": "a b", "schema": {}}}},
        400,
        "invalid_value",
        "text.format.name",
    ),
    ({"reasoning": {"summary": "detailed"}}, 400, "unsupported_parameter", "reasoning.summary"),
    ({"reasoning": {"effort": "huge"}}, 400, "invalid_value", "reasoning.effort"),
    ({"prompt": {"id": "p"}}, 400, "unsupported_parameter", "prompt"),
    ({"prompt_cache_retention": "24h"}, 400, "unsupported_parameter", "prompt_cache_retention"),
    ({"conversation": "c"}, 400, "unsupported_parameter", "conversation"),
    ({"nonsense": 1}, 400, "unknown_parameter", "nonsense"),
    ({"top_logprobs": 2}, 400, None, "top_logprobs"),
    ({"stream_options": {"include_obfuscation": False}}, 400, None, "stream_options"),
    ({"include": ["nonsense"]}, 400, "invalid_value", "include[0]"),
    ({"store": True}, 400, "unsupported_parameter", "store"),
    ({"background": True}, 400, "unsupported_parameter", "background"),
    ({"previous_response_id": "resp_x"}, 400, "unsupported_parameter", "previous_response_id"),
    ({"temperature": 3}, 400, "decimal_above_max_value", "temperature"),
    ({"max_output_tokens": 0}, 400, "integer_below_min_value", "max_output_tokens"),
    ({"model": "nope"}, 404, "model_not_found", "model"),
]


@pytest.mark.parametrize(("fields", "status", "code", "param"), BAD, ids=[str(case[0])[:60] for case in BAD])
async def test_bad_requests(
    served: Served, fields: dict[str, Any], status: int, code: str | None, param: str | None
) -> None:
    """What cannot be honoured is refused with the field's name, and nothing is asked of a model."""
    got, error = await refused(served, **fields)
    assert (got, error["code"], error["param"]) == (status, code, param), error
    assert served.admission.submits() == []


def test_every_field_of_openai_is_honoured_or_refused_by_name() -> None:
    """No field of CreateResponse is `unknown`."""
    assert properties("CreateResponse") - set(ResponseRequest.__struct_fields__) <= KNOWN


async def test_a_client_that_leaves_ends_the_response(served: Served) -> None:
    """Nobody writes for somebody who is gone."""
    served.admission.script = talks_until_cancelled()
    async with served.http.post(URL, json={"model": "m", "input": "Hi", "stream": True}) as reply:
        await reply.content.readline()
    (end,) = await served.admission.ends()
    assert isinstance(end, Cancel)
