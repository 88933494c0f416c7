"""Replies, chunks and errors are what OpenAI's own schema says."""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from lmx.http.chat_request import ChatRequest
from lmx.http.completion_request import CompletionRequest
from lmx.http.schemas import KNOWN
from tests.http.conftest import Served

SPEC = json.loads((Path(__file__).parents[1] / "data/openai-subset.json").read_text())
OURS = {
    "keep_alive",
    *("top_k", "min_p", "repetition_penalty", "typical_p", "top_n_sigma", "xtc_probability", "xtc_threshold"),
    *("dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers"),
    *("ignore_eos", "min_tokens", "regex", "grammar", "choice", "truncate", "priority", "lmx_cache"),
}
OF_CHATS = {"enable_thinking", "thinking", "thinking_budget", "chat_template_kwargs"}
HI = [{"role": "user", "content": "Hi"}]


def validate(value: Any, name: str, spec: Any = SPEC) -> None:
    validator = jsonschema.Draft202012Validator(spec | {"$ref": f"#/components/schemas/{name}"})
    validator.validate(value)


def properties(name: str) -> set[str]:
    schema = SPEC["components"]["schemas"][name]
    found = set(schema.get("properties", {}))
    for part in schema.get("allOf", ()):
        found |= properties(part["$ref"].rpartition("/")[2]) if "$ref" in part else set(part.get("properties", {}))
    return found


@pytest.mark.parametrize(
    ("ours", "theirs", "added"),
    [
        (ChatRequest, "CreateChatCompletionRequest", OURS | OF_CHATS),
        (CompletionRequest, "CreateCompletionRequest", OURS),
    ],
)
def test_every_field_of_openai_is_honoured_or_refused_by_name(ours: Any, theirs: str, added: set[str]) -> None:
    """No field that OpenAI knows is `unknown`, and lmx adds only its own; response_format is on both routes."""
    fields = set(ours.__struct_fields__)
    assert properties(theirs) - fields <= KNOWN
    assert fields - properties(theirs) - {"response_format"} == added


async def test_a_chat_reply(served: Served) -> None:
    _, _, body = await served.post("/v1/chat/completions", {"model": "m", "messages": HI})
    validate(body, "CreateChatCompletionResponse")
    assert body["choices"][0]["message"]["refusal"] is None
    assert body["system_fingerprint"]
    assert {"prompt_tokens_details", "completion_tokens_details"} <= set(body["usage"])


async def test_a_completion_reply(served: Served) -> None:
    _, _, body = await served.post("/v1/completions", {"model": "m", "prompt": "Hi"})
    validate(body, "CreateCompletionResponse")


async def chunks(served: Served, path: str, asked: Any) -> list[Any]:
    more = {"model": "m", "stream": True, "stream_options": {"include_usage": True}}
    async with served.http.post(path, json=asked | more) as reply:
        text = (await reply.read()).decode()
    return [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line.startswith("data: {")]


async def test_chat_chunks(served: Served) -> None:
    got = await chunks(served, "/v1/chat/completions", {"messages": HI})
    assert len(got) >= 4
    for chunk in got:
        validate(chunk, "CreateChatCompletionStreamResponse")


async def test_completion_chunks(served: Served) -> None:
    """OpenAI's schema forbids the nulls that OpenAI sends in these chunks; they alone are allowed here."""
    spec = copy.deepcopy(SPEC)
    fields = spec["components"]["schemas"]["CreateCompletionResponse"]["properties"]
    fields["choices"]["items"]["properties"]["finish_reason"] = {"enum": ["stop", "length", None]}
    fields["usage"] = {"anyOf": [fields["usage"], {"type": "null"}]}
    got = await chunks(served, "/v1/completions", {"prompt": "Hi"})
    assert len(got) >= 3
    for chunk in got:
        validate(chunk, "CreateCompletionResponse", spec)


@pytest.mark.parametrize(("path", "name"), [("/v1/models", "ListModelsResponse"), ("/v1/models/m", "Model")])
async def test_models(served: Served, path: str, name: str) -> None:
    validate((await served.get(path))[2], name)


@pytest.mark.parametrize("path", ["/v1/models/nope", "/nope", "/v1/chat/completions"])
async def test_errors(served: Served, path: str) -> None:
    validate((await served.get(path))[2], "ErrorResponse")
