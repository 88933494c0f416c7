"""The messages of a chat: what templates get of them, and what is refused, in OpenAI's words."""

import base64
from typing import Any

import pytest

from lmx.http.messages import first_image
from lmx.machines.types import Chat
from tests.http.conftest import Served
from tests.support.projector import png

CHAT = "/v1/chat/completions"
USER: Any = {"role": "user", "content": "Hi"}


def call(id: str = "a", **fields: Any) -> Any:
    return {"id": id, "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}, **fields}


def called(*ids: str, **fields: Any) -> Any:
    return {"role": "assistant", "tool_calls": [call(id) for id in ids], **fields}


def answer(id: str = "a") -> Any:
    return {"role": "tool", "tool_call_id": id, "content": "42"}


async def told(served: Served, *messages: Any) -> list[Any]:
    """What the template gets."""
    status, _, body = await served.post(CHAT, {"model": "m", "messages": messages})
    assert status == 200, body
    (generation,) = served.admission.generations()
    assert isinstance(generation.prompt, Chat)
    return list(generation.prompt.messages)


async def test_a_conversation_with_tools_reaches_the_template(served: Served) -> None:
    """Arguments stay the text they are, content that is null is empty; answers come in any order."""
    got = await told(served, USER, called("a", "b", content=None), answer("b"), answer("a"), USER)
    assert got == [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [call("a"), call("b")]},
        answer("b"),
        answer("a"),
        USER,
    ]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_former_thoughts_reach_the_template(served: Served, field: str) -> None:
    """Under either name."""
    got = await told(served, USER, {"role": "assistant", "content": "x", field: "So."}, USER)
    assert got[1] == {"role": "assistant", "content": "x", "reasoning_content": "So."}


async def test_what_a_client_has_got_may_be_sent_back(served: Served) -> None:
    """Replies as clients keep them: with nulls, both names of thoughts, and what helpers add."""
    kept = called(*("a",), content=None, refusal=None, audio=None, function_call=None, annotations=[], parsed=None) | {
        "reasoning_content": "So.",
        "reasoning": "So.",
    }
    kept["tool_calls"][0]["function"]["parsed_arguments"] = {"x": 1}
    kept["tool_calls"][0]["index"] = 0
    got = await told(served, USER, kept, answer())
    assert got[1] == {"role": "assistant", "content": "", "reasoning_content": "So.", "tool_calls": [call()]}


async def test_a_refusal_is_what_was_said(served: Served) -> None:
    """As a field of its own, or as a part."""
    parts = [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}]
    got = await told(
        served, USER, {"role": "assistant", "refusal": "No."}, {"role": "assistant", "content": parts}, USER
    )
    assert [message["content"] for message in got[1:3]] == ["No.", "ab"]


async def test_images_are_parts(served: Served) -> None:
    """A message with an image keeps its parts in their order; the files travel beside."""
    pixel = "data:image/png;base64," + base64.b64encode(png(1)).decode()
    content = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": pixel, "detail": "low"}}]
    got = await told(served, {"role": "user", "content": content})
    assert got == [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}]}]
    (generation,) = served.admission.generations()
    assert isinstance(generation.prompt, Chat)
    assert len(generation.prompt.images) == 1


def test_the_first_image_is_found() -> None:
    part = {"type": "image", "url": "x", "param": "messages[1].content[0]"}
    assert first_image([USER, {"role": "user", "content": [part]}]) == part["param"]
    assert first_image([USER]) is None


PRECEDING = "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
FOLLOWED = (
    "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'."
    " The following tool_call_ids did not have response messages: "
)
BAD: list[tuple[str, list[Any], str | None, str, str]] = [
    ("B34", [USER, answer()], None, "messages.[1].role", PRECEDING),
    ("B34", [USER, called("a"), answer(), USER, answer()], None, "messages.[4].role", PRECEDING),
    (
        "B34",
        [USER, called("a"), answer("z")],
        None,
        "messages.[2].tool_call_id",
        "Invalid parameter: 'tool_call_id' of 'z' not found in 'tool_calls' of previous message.",
    ),
    ("B34", [USER, {"role": "tool", "content": "x"}], "missing_required_parameter", "messages[1].tool_call_id", ""),
    ("B35", [USER, called("a", "b"), answer("b"), USER], None, "messages.[3].role", FOLLOWED + "a"),
    ("B35", [USER, called("a", "b")], None, "messages.[1].role", FOLLOWED + "a, b"),
    ("B35", [USER, called("a"), called("b"), answer("b")], None, "messages.[2].role", FOLLOWED + "a"),
    (
        "B36",
        [USER, called(*map(str, range(129)))],
        "array_above_max_length",
        "messages[1].tool_calls",
        "Expected an array with maximum length 128, but got an array with length 129 instead.",
    ),
    ("B36", [USER, called()], "empty_array", "messages[1].tool_calls", ""),
    ("B31", [{"role": "function", "name": "f", "content": "x"}], "invalid_value", "messages[0].role", "'function'"),
    ("B32", [USER, {"role": "assistant"}], None, "messages[1].content", "expected a string, got null."),
    (
        "B33",
        [{"role": "system", "content": [{"type": "image_url"}]}],
        "invalid_value",
        "messages[0].content[0].type",
        "",
    ),
    (
        "B33",
        [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "input_audio", "input_audio": {}}]}],
        None,
        "messages[0].content[1]",
        "Invalid content type. input_audio is only supported by certain models.",
    ),
    ("B33", [{"role": "user", "content": [{"type": "file"}]}], None, "messages[0].content[0]", "file is only"),
    (
        "B98",
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}],
        "invalid_image",
        "messages[0].content[0]",
        "data: URL",
    ),
    (
        "calls",
        [USER, {"role": "assistant", "tool_calls": [{"id": "a", "type": "custom", "custom": {}}]}],
        "unsupported_parameter",
        "messages[1].tool_calls[0].custom",
        "",
    ),
    (
        "calls",
        [USER, {"role": "assistant", "tool_calls": [call(type="magic")]}],
        "invalid_value",
        "messages[1].tool_calls[0].type",
        "Supported values are: 'function'.",
    ),
    (
        "calls",
        [USER, {"role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f"}}]}],
        "missing_required_parameter",
        "messages[1].tool_calls[0].function.arguments",
        "",
    ),
    (
        "calls",
        [USER, {"role": "assistant", "function_call": {"name": "f", "arguments": ""}}],
        "unsupported_parameter",
        "messages[1].function_call",
        "",
    ),
    ("audio", [USER, {"role": "assistant", "audio": {"id": "a"}}], "unsupported_parameter", "messages[1].audio", ""),
    ("calls", [{**USER, "tool_calls": [call()]}], "unknown_parameter", "messages[0].tool_calls", ""),
]


@pytest.mark.parametrize(
    ("messages", "code", "param", "text"), [row[1:] for row in BAD], ids=[f"{row[0]}-{row[3]}" for row in BAD]
)
async def test_bad_messages_are_refused_by_name(
    served: Served, messages: list[Any], code: str | None, param: str, text: str
) -> None:
    """RELIABILITY B31 to B36: in OpenAI's words, and no model hears of it."""
    status, _, body = await served.post(CHAT, {"model": "m", "messages": messages})
    assert (status, body["error"]["type"]) == (400, "invalid_request_error"), body
    assert (body["error"]["code"], body["error"]["param"]) == (code, param), body
    assert text in body["error"]["message"]
    assert served.admission.messages == []
