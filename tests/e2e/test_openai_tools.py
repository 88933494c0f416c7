"""Tools, thoughts and structured output with the official openai client, against the embedded model."""

import base64
import json
import tomllib
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from openai.types.chat import ChatCompletionMessage, ChatCompletionMessageParam
from pydantic import BaseModel, Field

from tests.support.guide import FOLDER, GGUF, MLX
from tests.support.official import strict, user
from tests.support.projector import png
from tests.support.server import Server

MODELS = ("guide-gguf", "guide-mlx")
GUIDE_MODEL = MODELS[0]
CONFIG = f"""
guide = false
[models.guide-gguf]
path = "{GGUF}"
context = 2048
[models.guide-mlx]
path = "{MLX}"
context = 2048
"""
KNOWN: dict[str, Any] = tomllib.loads((FOLDER / "corpus" / "tools.toml").read_text())["tool"]
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, **KNOWN[name]}} for name in ("get_weather", "get_time", "add")
]
WEATHER = "What is the weather in Paris?"
THOUGHT = "This is about what lmx is."
THINK = {"enable_thinking": True}


class Weather(BaseModel):
    """What `get_weather` of the corpus takes."""

    city: str = Field(max_length=40)


class State(BaseModel):
    state: Literal["loading", "ready"]
    slots: int = Field(ge=0, le=9)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("tools"), CONFIG).ready()
    for model in MODELS:
        started.loaded(model)
    yield started
    assert started.stop() == 0


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with strict(server) as opened:
        yield opened


def ask(client: openai.OpenAI, text: str, model: str = GUIDE_MODEL, **fields: Any) -> ChatCompletionMessage:
    greedy = {"temperature": 0, "max_tokens": 200}
    answer = client.chat.completions.create(model=model, messages=user(text), **(greedy | fields))
    message = answer.choices[0].message
    assert (answer.choices[0].finish_reason == "tool_calls") == bool(message.tool_calls)
    return message


def calls(message: ChatCompletionMessage) -> list[tuple[str, Any]]:
    """Each one's name and arguments."""
    found = message.tool_calls or []
    assert all(call.type == "function" for call in found)
    return [(call.function.name, json.loads(call.function.arguments)) for call in found if call.type == "function"]


@pytest.mark.parametrize("model", MODELS)
def test_a_loop_with_tools(client: openai.OpenAI, model: str) -> None:
    """Question, call, result, answer: the client's own message goes back as it came."""
    called = ask(client, WEATHER, model, tools=TOOLS)
    assert calls(called) == [("get_weather", {"city": "Paris"})]
    assert called.content is None
    assert called.tool_calls
    result: ChatCompletionMessageParam = {
        "role": "tool",
        "tool_call_id": called.tool_calls[0].id,
        "content": "18 degrees and sunny",
    }
    messages: Any = [*user(WEATHER), called, result]
    answer = client.chat.completions.create(model=model, messages=messages, tools=TOOLS, temperature=0)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].message.content == "The tool has answered. Its result is in the message above."


def test_what_must_be_called_is_called(client: openai.OpenAI) -> None:
    """A question that needs no tool: `required` calls one all the same, a name that one, and `none` does not."""
    question = "What is lmx?"
    assert calls(ask(client, question, tools=TOOLS)) == []
    for name, arguments in calls(ask(client, question, tools=TOOLS, tool_choice="required")):
        assert set(KNOWN[name]["parameters"]["required"]) == set(arguments)
    named = ask(client, question, tools=TOOLS, tool_choice={"type": "function", "function": {"name": "add"}})
    ((name, arguments),) = calls(named)
    assert name == "add"
    assert all(isinstance(arguments[key], int | float) for key in ("a", "b"))
    assert calls(ask(client, WEATHER, tools=TOOLS, tool_choice="none")) == []


def test_one_call_at_a_time(client: openai.OpenAI) -> None:
    """`parallel_tool_calls: false`: never more than one, at any temperature."""
    for seed in range(4):
        forced = ask(
            client, WEATHER, tools=TOOLS, tool_choice="required", parallel_tool_calls=False, temperature=2.0, seed=seed
        )
        assert len(calls(forced)) == 1
    assert calls(ask(client, WEATHER, tools=TOOLS, parallel_tool_calls=False)) == [("get_weather", {"city": "Paris"})]


def test_parse_gives_the_clients_own_objects(client: openai.OpenAI) -> None:
    """A pydantic model as response format and as a strict function: the client validates both."""
    told = client.chat.completions.parse(model=GUIDE_MODEL, messages=user("What is lmx?"), response_format=State)
    assert isinstance(told.choices[0].message.parsed, State)
    tool = openai.pydantic_function_tool(Weather, name="get_weather")
    called = client.chat.completions.parse(model=GUIDE_MODEL, messages=user(WEATHER), tools=[tool], temperature=0)
    message = called.choices[0].message
    assert message.tool_calls
    assert isinstance(message.tool_calls[0].function.parsed_arguments, Weather)
    back: Any = [*user(WEATHER), message, {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "ok"}]
    again = client.chat.completions.parse(model=GUIDE_MODEL, messages=back, tools=[tool], temperature=0)
    assert again.choices[0].message.content


def streamed(client: openai.OpenAI, text: str, **fields: Any) -> tuple[list[Any], Any]:
    with client.chat.completions.stream(
        model=GUIDE_MODEL, messages=user(text), temperature=0, stream_options={"include_usage": True}, **fields
    ) as stream:
        return list(stream), stream.get_final_completion()


def test_the_streaming_helper_understands_every_event(client: openai.OpenAI) -> None:
    """Its events and its final message are those of the whole answer, for calls, thoughts and text alike."""
    events, final = streamed(client, WEATHER, tools=TOOLS)
    done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert [(event.name, json.loads(event.arguments)) for event in done] == [("get_weather", {"city": "Paris"})]
    assert final.choices[0].finish_reason == "tool_calls"
    assert final.choices[0].message.content is None
    events, final = streamed(client, "What is lmx?", extra_body=THINK, tools=TOOLS)
    texts = [event.content for event in events if event.type == "content.done"]
    whole = ask(client, "What is lmx?", extra_body=THINK, tools=TOOLS)
    assert texts == [final.choices[0].message.content] == [whole.content]
    thoughts = [
        getattr(choice.delta, "reasoning_content", None) or ""
        for event in events
        if event.type == "chunk"
        for choice in event.chunk.choices
    ]
    assert "".join(thoughts) == getattr(whole, "reasoning_content", None)
    assert final.usage.completion_tokens_details.reasoning_tokens > 0


@pytest.mark.parametrize(
    "fields",
    [
        {"extra_body": THINK},
        {"extra_body": {"chat_template_kwargs": THINK}},
        {"extra_body": {"thinking": {"type": "enabled"}}},
        {"reasoning_effort": "low"},
    ],
)
def test_thoughts_have_a_field_of_their_own(client: openai.OpenAI, fields: Any) -> None:
    """However they are asked for; the answer is what it is without them, and usage tells them apart."""
    message = ask(client, "What is lmx?", **fields)
    assert getattr(message, "reasoning_content", None) == getattr(message, "reasoning", None) == THOUGHT
    assert message.content == ask(client, "What is lmx?", reasoning_effort="none").content
    assert "reasoning_content" not in (ask(client, "What is lmx?").model_extra or {})


def test_a_budget_ends_the_thoughts(client: openai.OpenAI) -> None:
    """After so many tokens of thoughts the answer comes."""
    message = ask(client, "What is lmx?", extra_body=THINK | {"thinking_budget": 3})
    thought = getattr(message, "reasoning_content", "")
    assert thought
    assert THOUGHT.startswith(thought)
    assert len(thought) < len(THOUGHT)
    assert message.content


def test_a_schema_holds_after_the_thoughts(client: openai.OpenAI) -> None:
    """The thoughts are free, the answer is the schema's; a forced call may be thought about too."""
    thinking = client.chat.completions.parse(
        model=GUIDE_MODEL, messages=user("What is lmx?"), response_format=State, temperature=0, extra_body=THINK
    )
    message = thinking.choices[0].message
    assert isinstance(message.parsed, State)
    assert getattr(message, "reasoning_content", None) == THOUGHT
    forced = ask(client, WEATHER, tools=TOOLS, tool_choice="required", extra_body=THINK)
    assert calls(forced)
    assert getattr(forced, "reasoning_content", None)


def test_what_the_model_cannot_do_is_refused(client: openai.OpenAI) -> None:
    """It does not see, and its template does not know every variable: 400, and the field as it was sent."""
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, "x", extra_body={"chat_template_kwargs": {"tone": "kind"}})
    assert caught.value.param == "chat_template_kwargs"
    url = "data:image/png;base64," + base64.b64encode(png(1)).decode()
    messages: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
    with pytest.raises(openai.BadRequestError) as blind:
        client.chat.completions.create(model=GUIDE_MODEL, messages=messages)
    assert blind.value.param == "messages[0].content[0]"
