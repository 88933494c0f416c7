"""The official openai client's `responses` against the embedded model."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from openai.types.responses import FunctionToolParam, Response, ResponseFunctionToolCall, ResponseReasoningItem
from pydantic import BaseModel

from tests.http.test_openai_schema import validate
from tests.support.guide import GGUF
from tests.support.official import strict
from tests.support.server import Server

MODEL = "guide"
CONFIG = f'guide = false\n[models.{MODEL}]\npath = "{GGUF}"\ncontext = 1024\n'
QUESTION = "What is lmx?"
ANSWER = (
    "lmx is an OpenAI-compatible inference server for your own machines. It runs MLX models through mlx-lm and GGUF"
    " models through llama-cpp-python."
)
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": CITY | {"additionalProperties": False},
    "strict": True,
}


class Verdict(BaseModel):
    fruit: Literal["apple", "pear"]
    ripe: bool


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("responses"), CONFIG).ready()
    started.loaded(MODEL)
    yield started
    assert started.stop() == 0


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with strict(server) as opened:
        yield opened


def test_create_retrieve_delete(client: openai.OpenAI) -> None:
    """The answer is true, the reply is what OpenAI's schema says, and it is stored until it is deleted."""
    raw = client.responses.with_raw_response.create(model=MODEL, input=QUESTION, temperature=0)
    validate(json.loads(raw.text), "Response")
    response = raw.parse()
    assert response.output_text == ANSWER
    assert response.status == "completed"
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert client.responses.retrieve(response.id).output_text == ANSWER
    listed = [item.to_dict() for item in client.responses.input_items.list(response.id)]
    assert [item["content"] for item in listed] == [[{"type": "input_text", "text": QUESTION}]]
    client.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_the_streaming_helper(client: openai.OpenAI) -> None:
    """The client's own accumulation of the events ends where the whole response does."""
    with client.responses.stream(model=MODEL, input=QUESTION, temperature=0) as stream:
        events = list(stream)
        final = stream.get_final_response()
    deltas = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert deltas == final.output_text == ANSWER
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert client.responses.retrieve(final.id).output_text == ANSWER


def test_parsed_into_a_model(client: openai.OpenAI) -> None:
    """A pydantic model comes back as one, whatever the model would have liked to write."""
    parsed = client.responses.parse(model=MODEL, input="Which fruit?", text_format=Verdict, max_output_tokens=60)
    assert isinstance(parsed.output_parsed, Verdict)
    with client.responses.stream(
        model=MODEL, input="Which fruit?", text_format=Verdict, max_output_tokens=60
    ) as stream:
        stream.until_done()
        assert isinstance(stream.get_final_response().output_parsed, Verdict)


def call_of(response: Response) -> ResponseFunctionToolCall:
    (call,) = [item for item in response.output if isinstance(item, ResponseFunctionToolCall)]
    return call


def test_a_loop_of_tools(client: openai.OpenAI) -> None:
    """The model calls a function, gets its result by previous_response_id alone, and goes on."""
    asked: dict[str, Any] = {"model": MODEL, "tools": [WEATHER], "temperature": 0}
    first = client.responses.create(input="What is the weather in Berlin?", tool_choice="required", **asked)
    call = call_of(first)
    assert (call.name, call.status) == ("get_weather", "completed")
    assert list(json.loads(call.arguments)) == ["city"]
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny, 21 degrees."}
    second = client.responses.create(input=[result], previous_response_id=first.id, **asked)
    assert second.output_text
    items = [item.type for item in client.responses.input_items.list(second.id, order="asc")]
    assert items == ["message", "function_call", "function_call_output"]
    stateless: Any = [{"role": "user", "content": "What is the weather in Berlin?"}, *first.output, result]
    same = client.responses.create(input=stateless, store=False, **asked)
    assert same.output_text == second.output_text
    with client.responses.stream(input="What is the weather in Rome?", tool_choice="required", **asked) as stream:
        deltas = "".join(event.delta for event in stream if event.type == "response.function_call_arguments.delta")
        assert call_of(stream.get_final_response()).arguments == deltas
    nothing = client.responses.create(input=QUESTION, tool_choice="none", **asked)
    assert nothing.output_text == ANSWER


def test_thoughts_are_items(client: openai.OpenAI) -> None:
    """They come before the answer, are counted, and can be handed back sealed."""
    asked: dict[str, Any] = {"model": MODEL, "temperature": 0, "extra_body": {"enable_thinking": True}}
    response = client.responses.create(input=QUESTION, include=["reasoning.encrypted_content"], **asked)
    thought = response.output[0]
    assert isinstance(thought, ResponseReasoningItem)
    assert thought.content
    assert thought.content[0].text
    assert response.output_text == ANSWER
    assert response.usage is not None
    assert 0 < response.usage.output_tokens_details.reasoning_tokens < response.usage.output_tokens
    again: Any = [{"role": "user", "content": QUESTION}, *response.output, {"role": "user", "content": "Who are you?"}]
    assert client.responses.create(input=again, **asked).output_text
    with client.responses.stream(input=QUESTION, **asked) as stream:
        told = "".join(event.delta for event in stream if event.type == "response.reasoning_text.delta")
    assert told == thought.content[0].text
    little = client.responses.create(model=MODEL, input=QUESTION, reasoning={"effort": "low"})
    assert little.output[0].type == "reasoning"
    assert (
        client.responses.create(model=MODEL, input=QUESTION, reasoning={"effort": "none"}).output[0].type == "message"
    )


def test_in_the_background(server: Server, client: openai.OpenAI) -> None:
    """It is made without its client, and told when it is done; a long one can be cancelled."""
    begun = client.responses.create(model=MODEL, input=QUESTION, temperature=0, background=True)
    assert begun.status == "queued"
    done = server.until(lambda: client.responses.retrieve(begun.id), lambda one: one.status == "completed", 60)
    assert done is None or done.output_text == ANSWER
    assert client.responses.retrieve(begun.id).output_text == ANSWER
    more: dict[str, Any] = {"background": True, "max_output_tokens": 900, "extra_body": {"ignore_eos": True}}
    long = client.responses.create(model=MODEL, input=QUESTION, **more)
    assert client.responses.cancel(long.id).status == "cancelled"
    assert client.responses.retrieve(long.id).status == "cancelled"


def test_errors(client: openai.OpenAI) -> None:
    """They arrive as the client's exceptions, with the field's name in this API."""
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.create(model=MODEL, input="word " * 2000)
    assert (error.value.code, error.value.param) == ("context_length_exceeded", "input")
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.create(model=MODEL, input="Hi", previous_response_id="resp_unknown")
    assert error.value.code == "previous_response_not_found"
    with pytest.raises(openai.NotFoundError) as missing:
        client.responses.create(model="nope", input="Hi")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.create(model=MODEL, input="Hi", tools=[{"type": "web_search"}])
    assert error.value.param == "tools[0].type"
    turns: Any = [{"role": "user", "content": "word " * 100} for _ in range(20)]
    cut = client.responses.create(model=MODEL, input=turns, truncation="auto", max_output_tokens=16)
    left_out: Any = cut.to_dict()["lmx_truncated"]
    assert left_out["messages"] > 0


@pytest.mark.slow
def test_a_restart_keeps_what_was_stored(tmp_path: Path) -> None:
    """A conversation goes on after a restart; with less room, the oldest goes."""
    first = Server(tmp_path, CONFIG).ready()
    with strict(first) as client:
        old = client.responses.create(model=MODEL, input=QUESTION, temperature=0)
        other = client.responses.create(model=MODEL, input="Hello")
    assert first.stop() == 0
    second = Server(tmp_path, CONFIG + "[responses]\ncount = 2\n").ready()
    with strict(second) as client:
        assert client.responses.retrieve(old.id).output_text == ANSWER
        new = client.responses.create(model=MODEL, input="Who are you?", previous_response_id=old.id)
        assert len(list(client.responses.input_items.list(new.id))) == 3
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(other.id)
    assert second.stop() == 0
