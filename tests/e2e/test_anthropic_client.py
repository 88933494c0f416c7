"""The official anthropic client, and the recorded session of a coding agent, against the embedded model."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic import beta_tool

from tests.support.guide import GGUF
from tests.support.server import Server

MODEL = "guide"
WHAT: Any = [{"role": "user", "content": "What is lmx?"}]
LMX = (
    "lmx is an OpenAI-compatible inference server for your own machines. It runs MLX models through mlx-lm and GGUF"
    " models through llama-cpp-python."
)
WEATHER: Any = [{"role": "user", "content": "What is the weather in Paris?"}]
TOOLS: Any = [
    {
        "name": "get_weather",
        "description": "Get the weather.",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
]
GREEDY = {"temperature": 0}
TRANSCRIPT = Path(__file__).parents[1] / "data" / "agent_transcript.json"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = f'guide = false\n[models.{MODEL}]\npath = "{GGUF}"\ncontext = 2048\n'
    started = Server(tmp_path_factory.mktemp("anthropic"), config).ready()
    started.loaded(MODEL)
    yield started
    assert started.stop() == 0


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="any", max_retries=0) as opened:
        yield opened


def read(usage: anthropic.types.Usage) -> int:
    return usage.cache_read_input_tokens or 0


def test_a_message_whole_and_streamed(client: anthropic.Anthropic) -> None:
    """The answer is true both ways, its prompt as long as count_tokens said; max_tokens may exceed the context."""
    ask: Any = {"model": MODEL, "max_tokens": 8000, "messages": WHAT, "extra_body": GREEDY}
    whole = client.messages.create(**ask)
    with client.messages.stream(**ask) as stream:
        text = "".join(stream.text_stream)
        streamed = stream.get_final_message()
    counted = client.messages.count_tokens(model=MODEL, messages=WHAT).input_tokens
    assert text == LMX
    for message in (whole, streamed):
        assert [block.model_dump()["text"] for block in message.content] == [LMX]
        assert message.stop_reason == "end_turn"
        assert message.usage.input_tokens + read(message.usage) == counted


def test_it_stops_where_it_is_told_to(client: anthropic.Anthropic) -> None:
    """The stop sequence that was hit is told; max_tokens is, and a begun answer goes on."""
    ask: Any = {"model": MODEL, "messages": WHAT, "extra_body": GREEDY}
    stopped = client.messages.create(max_tokens=50, stop_sequences=["nothing", " inference"], **ask)
    assert stopped.content[0].model_dump()["text"] == "lmx is an OpenAI-compatible"
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", " inference")
    assert client.messages.create(max_tokens=3, **ask).stop_reason == "max_tokens"
    begun = ask | {"messages": [*WHAT, {"role": "assistant", "content": "lmx is an"}]}
    assert client.messages.create(max_tokens=50, **begun).content[0].model_dump()["text"] == LMX.removeprefix(
        "lmx is an"
    )


def test_thoughts_come_before_the_answer(client: anthropic.Anthropic) -> None:
    """With thinking enabled the first block is the thought, signed; sent back it is taken, and a budget ends it."""
    ask: Any = {"model": MODEL, "max_tokens": 1500, "extra_body": GREEDY}
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    with client.messages.stream(messages=WHAT, thinking=thinking, **ask) as stream:
        message = stream.get_final_message()
    thought, text = message.content
    assert thought.type == "thinking"
    assert thought.thinking == "This is about what lmx is."
    assert thought.signature
    assert text.type == "text"
    assert text.text == LMX
    assert message.usage.output_tokens_details is not None
    assert message.usage.output_tokens_details.thinking_tokens > 0
    back: Any = [*WHAT, {"role": "assistant", "content": message.content}, {"role": "user", "content": "Who are you?"}]
    assert client.messages.create(messages=back, thinking=thinking, **ask).stop_reason == "end_turn"


def test_a_loop_with_tools(client: anthropic.Anthropic) -> None:
    """The model calls, gets the result and answers; a forced call comes also where it would not have called."""
    ask: Any = {"model": MODEL, "max_tokens": 100, "tools": TOOLS, "extra_body": GREEDY}
    called = client.messages.create(messages=WEATHER, **ask)
    (use,) = called.content
    assert use.type == "tool_use"
    assert (use.name, use.input, called.stop_reason) == ("get_weather", {"city": "Paris"}, "tool_use")
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "18 degrees, sunny"}
    turns: Any = [*WEATHER, {"role": "assistant", "content": called.content}, {"role": "user", "content": [result]}]
    answered = client.messages.create(messages=turns, **ask)
    assert answered.stop_reason == "end_turn"
    assert answered.content[0].type == "text"
    counted = client.messages.count_tokens(model=MODEL, messages=turns, tools=TOOLS).input_tokens
    assert answered.usage.input_tokens + read(answered.usage) == counted
    with client.messages.stream(messages=WHAT, tool_choice={"type": "any"}, **ask) as stream:
        forced = stream.get_final_message()
    assert [block.type for block in forced.content] == ["tool_use"]
    assert forced.stop_reason == "tool_use"


def test_the_tool_runner_runs_tools(client: anthropic.Anthropic) -> None:
    """The client's own loop: it asks for a thread that lmx does not keep, does without, and gets to the answer."""
    cities: list[str] = []

    @beta_tool
    def get_weather(city: str) -> str:
        """Get the weather."""
        cities.append(city)
        return "18 degrees, sunny"

    runner = client.beta.messages.tool_runner(
        model=MODEL, max_tokens=100, messages=WEATHER, tools=[get_weather], extra_body=GREEDY
    )
    assert [message.stop_reason for message in runner] == ["tool_use", "end_turn"]
    assert set(cities) == {"Paris"}


def test_errors_are_the_clients_own(client: anthropic.Anthropic) -> None:
    """A prompt that is too long says so in Anthropic's words; a model that there is not is not found."""
    with pytest.raises(anthropic.BadRequestError) as long:
        client.messages.create(model=MODEL, max_tokens=9, messages=[{"role": "user", "content": "word " * 3000}])
    assert long.value.type == "invalid_request_error"
    assert long.value.api_message is not None
    assert long.value.api_message.startswith("prompt is too long: ")
    assert long.value.api_message.endswith(" tokens > 2047 maximum")
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="claude-opus-9", max_tokens=9, messages=WHAT)
    picture: Any = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
    }
    with pytest.raises(anthropic.BadRequestError):
        client.messages.create(model=MODEL, max_tokens=9, messages=[{"role": "user", "content": [picture]}])


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="


def replayed(client: anthropic.Anthropic) -> Iterator[anthropic.types.Message]:
    """The answer to each request of the session; it is limited, as nobody reads it."""
    recorded = json.loads(TRANSCRIPT.read_text())
    turns = [at for at, message in enumerate(recorded["messages"]) if message["role"] == "assistant"]
    for cch, turn in zip(recorded["cch"], turns, strict=True):
        asked = recorded["request"] | {"max_tokens": 24, "thinking": {"type": "enabled", "budget_tokens": 8}}
        first, *others = asked["system"]
        asked["system"] = [first | {"text": first["text"].format(cch=cch)}, *others]
        with client.messages.stream(model=MODEL, messages=recorded["messages"][:turn], **asked) as stream:
            yield stream.get_final_message()


def test_a_coding_agents_session_is_replayed(client: anthropic.Anthropic) -> None:
    """Thirty turns with tools and thoughts: no error, and of what each prompt has in common with the one before it at
    least 95 % is not computed again, though the billing line differs every time."""
    usages = [message.usage for message in replayed(client)]
    assert len(usages) == 30
    prompts = [usage.input_tokens + read(usage) for usage in usages]
    assert prompts == sorted(prompts)
    known = sum(read(usage) for usage in usages[1:])
    common = sum(prompts[:-1])
    assert known >= 0.95 * common, (known, common, [read(usage) for usage in usages], prompts)
