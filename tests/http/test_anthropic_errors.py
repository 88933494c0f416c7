"""What Anthropic's routes refuse: in Anthropic's envelope and words, whatever is wrong."""

from typing import Any

import pytest

from lmx.actors.messages.client import Refused
from lmx.http.keys import KeyRing
from lmx.machines.types import Refusal, RefusalKind
from tests.http.conftest import Serve, Served
from tests.support.dummies import tells

PATH = "/v1/messages"
ASK: Any = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
USE = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "r"}


def turns(*contents: Any) -> dict[str, Any]:
    """User and assistant in turn."""
    roles = ["user", "assistant"] * len(contents)
    return {"messages": [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]}


BAD: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": None}, "max_tokens: Field required"),
    ({"max_tokens": -1}, "max_tokens: Input should be greater than or equal to 0"),
    ({"max_tokens": "9"}, "max_tokens: Input should be a valid integer"),
    ({"messages": None}, "messages: Field required"),
    ({"messages": []}, "messages: List should have at least 1 item"),
    ({"messages": "Hi"}, "messages: Input should be a valid list"),
    (
        {"messages": [{"role": "robot", "content": "x"}]},
        "messages.0.role: Input should be 'user', ",
    ),
    ({"messages": [{"role": "user"}]}, "messages.0.content: Field required"),
    (turns("a", "b", ""), "messages.2: all messages must have non-empty content"),
    (turns([{"type": "text", "text": "a", "x": 1}]), "messages.0.content.0.text.x: Extra inputs are not permitted"),
    (turns([{"type": "text", "text": ""}]), "messages.0.content.0.text.text: String should have at least 1 character"),
    (turns([{"type": "video", "source": {}}]), "messages.0.content.0.type: Input tag 'video' found using 'type'"),
    (turns([{"text": "a"}]), "messages.0.content.0.type: Field required"),
    (turns([USE]), "messages.0.content.0: `tool_use` blocks cannot be in user messages"),
    (
        turns("a", [USE], "b"),
        "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: t1",
    ),
    (turns("a", [USE]), "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: t1"),
    (turns([RESULT]), "messages.0.content.0: unexpected `tool_use_id` found in `tool_result` blocks: t1."),
    (turns("a", "b "), "messages: final assistant content cannot end with trailing whitespace"),
    (turns("a", "b") | {"thinking": {"type": "adaptive"}}, "messages: the final message is an assistant's"),
    ({"temperature": 1.5}, "temperature: Input should be less than or equal to 1"),
    ({"frequency_penalty": 1}, "frequency_penalty: Extra inputs are not permitted"),
    ({"container": "c"}, "container: Extra inputs are not permitted"),
    ({"mcp_servers": [{"type": "url"}]}, "mcp_servers: List should have at most 0 items"),
    ({"speed": "fast"}, "speed: Input should be 'standard'"),
    (
        {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
        "context_management.edits.0.type: ",
    ),
    ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens: Field required"),
    (
        {"thinking": {"type": "enabled", "budget_tokens": 9}},
        "`max_tokens` must be greater",
    ),
    ({"thinking": {"type": "between_tools"}}, "thinking.type: Input tag 'between_tools' found"),
    (
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        "tools.0: Input tag 'web_search",
    ),
    ({"tools": [{"name": "f"}]}, "tools.0.input_schema: Field required"),
    ({"tools": [{"name": "f g", "input_schema": {}}]}, "tools.0.name: "),
    ({"tools": [{"name": "f", "input_schema": {"type": "string"}}]}, "tools.0.input_schema: Invalid schema"),
    ({"tool_choice": {"type": "auto"}}, "tool_choice: may only be specified while providing `tools`"),
    (
        {"tools": [{"name": "f", "input_schema": {}}], "tool_choice": {"type": "tool", "name": "g"}},
        "tool_choice: Tool choice 'g' not found",
    ),
    ({"stop_sequences": "x"}, "stop_sequences: Input should be a valid list"),
    ({"metadata": {"user": "x"}}, "metadata.user: Extra inputs are not permitted"),
    (
        {"system": [{"type": "text", "text": "a", "cache_control": {"type": "always"}}]},
        "system.0.text.cache_control.type: ",
    ),
    ({"model": 5}, "model: Input should be a valid string"),
    ({"model": None}, "model: Field required"),
]


def check(reply: Any, headers: Any, kind: str, message: str) -> None:
    assert set(reply) == {"type", "error", "request_id"}
    assert reply["type"] == "error"
    assert set(reply["error"]) == {"type", "message"}
    assert reply["error"]["type"] == kind
    assert reply["error"]["message"].startswith(message), reply["error"]["message"]
    assert reply["request_id"] == headers["request-id"] == headers["x-request-id"]


@pytest.mark.parametrize(("change", "message"), BAD, ids=[message[:60] for _, message in BAD])
async def test_bad_fields(served: Served, change: dict[str, Any], message: str) -> None:
    """Each is an invalid_request_error whose message begins with the place of what is wrong."""
    status, headers, reply = await served.post(PATH, ASK | change)
    assert status == 400
    check(reply, headers, "invalid_request_error", message)
    assert served.admission.submits() == []


async def test_neutral_fields_are_taken(served: Served) -> None:
    """What coding agents send along and lmx honours by doing nothing is no error."""
    body = ASK | {
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "high"},
        "cache_control": {"type": "ephemeral", "ttl": "5m"},
        "mcp_servers": [],
        "container": None,
        "diagnostics": {"previous_message_id": None},
        "stop_sequences": [],
        "tools": [],
        "speed": "standard",
    }
    status, _, reply = await served.post(f"{PATH}?beta=true", body, headers={"anthropic-version": "2023-06-01"})
    assert status == 200, reply


async def test_whatever_goes_wrong_is_in_the_same_envelope(serve: Serve) -> None:
    """Keys, sizes, JSON, methods and paths too."""
    served = await serve(keys=KeyRing(["secret-key"]), max_body_bytes=1000)
    known = {"x-api-key": "secret-key"}
    status, headers, reply = await served.post(PATH, ASK)
    assert status == 401
    check(reply, headers, "authentication_error", "x-api-key header is required")
    status, headers, reply = await served.post(PATH, ASK, headers={"x-api-key": "wrong-key"})
    assert status == 401
    check(reply, headers, "authentication_error", "Incorrect API key")
    status, headers, reply = await served.post(PATH, ASK | {"system": "x" * 2000}, headers=known)
    assert status == 413
    check(reply, headers, "request_too_large", "The request body")
    status, headers, reply = await served.post(f"{PATH}/batches", ASK, headers=known)
    assert status == 404
    check(reply, headers, "not_found_error", "Invalid URL")
    async with served.http.get(PATH, headers=known) as answer:
        assert answer.status == 405
        check(await answer.json(), answer.headers, "invalid_request_error", "Not allowed to GET")
    sent = known | {"Content-Type": "application/json"}
    async with served.http.post(PATH, data=b"{", headers=sent) as answer:
        assert answer.status == 400
        check(await answer.json(), answer.headers, "invalid_request_error", "We could not parse")


async def test_other_routes_keep_openais_envelope(served: Served) -> None:
    """A path that only begins alike is none of Anthropic's."""
    status, headers, reply = await served.post("/v1/messagesx", ASK)
    assert status == 404
    assert set(reply) == {"error"}
    assert "request-id" not in headers


async def test_a_prompt_that_is_too_long_is_told_in_tokens(served: Served) -> None:
    """In the words that agents look for before they compact a conversation."""
    refusal = Refusal(RefusalKind.CONTEXT_LENGTH_EXCEEDED, "Too long.", param="messages", tokens=(300, 255))
    served.admission.script = tells(Refused(refusal))
    status, headers, reply = await served.post(PATH, ASK)
    assert status == 400
    check(reply, headers, "invalid_request_error", "prompt is too long: 300 tokens > 255 maximum")
