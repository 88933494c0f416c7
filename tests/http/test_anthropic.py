"""POST /v1/messages as the official anthropic client sees it."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import anthropic
import pytest
from msgspec.structs import replace

from lmx.actors.messages.client import Accepted, Delta, Event, Finished, Rendered
from lmx.machines.speech import Calling, Speech, Thinking
from lmx.machines.tasks import Rendering
from lmx.machines.types import Chat, Constraint, FailureKind, RefusalKind, Sampling, Usage
from tests.http.conftest import Serve, Served
from tests.support.dummies import Act, fails, gate, is_silent, refuses, says, tells, waits

HI: Any = [{"role": "user", "content": "Hi"}]
TEXT: Any = {"type": "text", "text": "no"}
SPEECH = Speech(calls="hermes", thoughts="think")
TOOLS: Any = [
    {
        "name": "read",
        "description": "Read a file.",
        "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
    },
    {"name": "now", "input_schema": {"type": "object", "properties": {}}},
]
CALLS = (
    '<think>\nLet me look.\n</think>\n\nI read it.\n<tool_call>\n{"name": "read", "arguments": {"path": "a.py"}}\n'
    '</tool_call>\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
)


def speaks(text: str, *, step: int = 7, **finished: Any) -> Act:
    """A chat of a model that thinks and calls functions, `step` characters at a time."""
    pieces: list[Event] = [Delta(text[at : at + step]) for at in range(0, len(text), step)]
    end = replace(Finished("stop", Usage(10, 20, 4, 3)), **finished)
    return tells(Accepted(10, speech=SPEECH), *pieces, end)


@pytest.fixture
async def client(served: Served) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        api_key="any", base_url=f"http://127.0.0.1:{served.port}", max_retries=0
    ) as opened:
        yield opened


async def events(served: Served, begun: Callable[[], None] = lambda: None, **body: Any) -> list[tuple[str, Any]]:
    """Each event's name and data; `begun` is called when the headers are here."""
    asked = {"model": "m", "max_tokens": 50, "messages": HI, "stream": True} | body
    async with served.http.post("/v1/messages", json=asked) as answer:
        assert answer.status == 200, await answer.text()
        begun()
        text = (await answer.read()).decode()
    blocks = [block.split("\n") for block in text.split("\n\n") if block]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


async def test_a_message_is_text_with_what_it_cost(served: Served, client: anthropic.AsyncAnthropic) -> None:
    """The tokens of the prompt are divided into those that were known and those that were computed."""
    served.admission.script = says("Hello", " world", prompt=7, cached=3)
    message = await client.messages.create(model="m", max_tokens=50, messages=HI)
    assert message.id.startswith("msg_")
    assert (message.type, message.role, message.model) == ("message", "assistant", "m")
    assert [block.model_dump(exclude_none=True) for block in message.content] == [
        {"type": "text", "text": "Hello world"}
    ]
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (4, 3, 2)
    assert usage.cache_creation_input_tokens == 0


async def test_thoughts_text_and_calls_are_blocks(served: Served, client: anthropic.AsyncAnthropic) -> None:
    """A thinking block is signed, a call has its input as an object, and the message stops for it."""
    served.admission.script = speaks(CALLS)
    message = await client.messages.create(model="m", max_tokens=50, messages=HI, tools=TOOLS)
    thought, text, read, now = message.content
    assert thought.type == "thinking"
    assert thought.thinking.strip() == "Let me look."
    assert thought.signature
    assert text.type == "text"
    assert text.text == "I read it."
    assert read.type == now.type == "tool_use"
    assert (read.name, read.input) == ("read", {"path": "a.py"})
    assert (now.name, now.input) == ("now", {})
    assert read.id.startswith("toolu_")
    assert read.id != now.id
    assert message.stop_reason == "tool_use"
    assert message.usage.output_tokens_details is not None
    assert message.usage.output_tokens_details.thinking_tokens == 3


@pytest.mark.parametrize("step", [1, 7, 1000])
async def test_the_streaming_helper_puts_the_same_message_together(
    served: Served, client: anthropic.AsyncAnthropic, step: int
) -> None:
    """However the text is cut: blocks, stop reason and usage are those of the whole answer."""
    served.admission.script = speaks(CALLS, step=step)
    whole = await client.messages.create(model="m", max_tokens=50, messages=HI, tools=TOOLS)
    async with client.messages.stream(model="m", max_tokens=50, messages=HI, tools=TOOLS) as stream:
        streamed = await stream.get_final_message()
    ours = [block.model_dump(exclude={"id", "parsed_output"}) for block in streamed.content]
    assert ours == [block.model_dump(exclude={"id"}) for block in whole.content]
    assert streamed.stop_reason == whole.stop_reason
    assert streamed.usage.input_tokens == whole.usage.input_tokens == 6
    assert streamed.usage.cache_read_input_tokens == whole.usage.cache_read_input_tokens == 4
    assert streamed.usage.output_tokens == whole.usage.output_tokens == 20


async def test_events_come_in_anthropics_order(served: Served) -> None:
    """Each event is named as its type; each block begins, grows and stops before the next one begins."""
    served.admission.script = speaks(CALLS, step=1000)
    told = await events(served, tools=TOOLS)
    assert all(name == data["type"] for name, data in told)
    names = [name for name, _ in told]
    assert names[:2] == ["message_start", "ping"]
    assert names[-2:] == ["message_delta", "message_stop"]
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    thought = ["content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"]
    assert names[2:-2] == thought + block * 3
    assert [data["index"] for _, data in told if "index" in data] == [0] * 4 + [1] * 3 + [2] * 3 + [3] * 3
    start = told[0][1]["message"]
    assert (start["content"], start["stop_reason"], start["usage"]["input_tokens"]) == ([], None, 10)
    deltas = [data["delta"]["type"] for name, data in told if name == "content_block_delta"]
    assert deltas == ["thinking_delta", "signature_delta", "text_delta", "input_json_delta", "input_json_delta"]
    end = told[-2][1]
    assert end["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert end["usage"]["cache_read_input_tokens"] == 4


async def test_only_eager_tools_stream_an_input_that_is_not_whole(served: Served) -> None:
    """A call that max_tokens cut off is no block, unless its tool asked for `eager_input_streaming`."""
    cut = CALLS[: CALLS.index("a.py") + 2]
    served.admission.script = speaks(cut, reason="length", usage=Usage(10, 50))
    told = await events(served, tools=TOOLS)
    started = [data["content_block"]["type"] for name, data in told if name == "content_block_start"]
    assert started == ["thinking", "text"]
    assert told[-2][1]["delta"]["stop_reason"] == "max_tokens"
    told = await events(served, tools=[TOOLS[0] | {"eager_input_streaming": True}, TOOLS[1]])
    started = [data["content_block"]["type"] for name, data in told if name == "content_block_start"]
    assert started == ["thinking", "text", "tool_use"]
    assert [name for name, _ in told][-3] == "content_block_stop"


@pytest.mark.parametrize(("eager", "reason"), [(False, "tool_use"), (True, "end_turn")])
async def test_a_broken_call_is_not_to_be_used(served: Served, eager: bool, reason: str) -> None:
    """Held back it is text, and the whole one before it counts; told already, the reason to stop disowns it."""
    served.admission.script = speaks(CALLS.replace('"arguments": {}', '"arguments": {"at": now}'))
    tools = [tool | {"eager_input_streaming": eager} for tool in TOOLS]
    told = await events(served, tools=tools)
    started = [data["content_block"]["type"] for name, data in told if name == "content_block_start"]
    assert started.count("tool_use") == (2 if eager else 1)
    said = "".join(data["delta"].get("text", "") for name, data in told if name == "content_block_delta")
    assert eager or '"arguments": {"at": now}' in said
    assert told[-2][1]["delta"]["stop_reason"] == reason


@pytest.mark.parametrize(
    ("finished", "reason", "sequence"),
    [
        ({"reason": "stop"}, "end_turn", None),
        ({"reason": "stop", "stop": "END"}, "stop_sequence", "END"),
        ({"reason": "length", "usage": Usage(10, 50)}, "max_tokens", None),
        ({"reason": "length", "usage": Usage(10, 20)}, "model_context_window_exceeded", None),
    ],
)
async def test_why_it_stopped(
    served: Served, client: anthropic.AsyncAnthropic, finished: Any, reason: str, sequence: str | None
) -> None:
    """The stop sequence that was hit is told, and a full context is not called max_tokens."""
    served.admission.script = speaks("Hello", **finished)
    message = await client.messages.create(model="m", max_tokens=50, messages=HI, stop_sequences=["END"])
    assert (message.stop_reason, message.stop_sequence) == (reason, sequence)
    end = (await events(served))[-2][1]["delta"]
    assert (end["stop_reason"], end["stop_sequence"]) == (reason, sequence)


async def test_blocks_keep_their_order(served: Served, client: anthropic.AsyncAnthropic) -> None:
    """Text before a call, and text behind it, stay where they were said, streamed or not."""
    call = '<tool_call>{"name": "now", "arguments": {}}</tool_call>'
    served.admission.script = speaks(f"Let me look. {call} There. {call}")
    message = await client.messages.create(model="m", max_tokens=50, messages=HI, tools=TOOLS)
    told = await events(served, tools=TOOLS)
    streamed = [data["content_block"]["type"] for name, data in told if name == "content_block_start"]
    assert [block.type for block in message.content] == streamed == ["text", "tool_use", "text", "tool_use"]


async def test_thoughts_may_be_left_out(served: Served) -> None:
    """`display: omitted` gives a thinking block with its signature and no text."""
    served.admission.script = speaks(CALLS)
    thinking = {"type": "adaptive", "display": "omitted"}
    told = await events(served, thinking=thinking)
    deltas = [data["delta"] for name, data in told if name == "content_block_delta" and data["index"] == 0]
    assert [delta["type"] for delta in deltas] == ["signature_delta"]
    _, _, reply = await served.post(
        "/v1/messages", {"model": "m", "max_tokens": 9, "messages": HI, "thinking": thinking}
    )
    assert reply["content"][0]["thinking"] == ""
    assert reply["content"][0]["signature"] == deltas[0]["signature"]


async def test_all_that_is_asked_reaches_the_model(served: Served, client: anthropic.AsyncAnthropic) -> None:
    """Messages become those of templates, with results of tools on their own; options become those of the engine."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    fields: Any = {
        "model": "m",
        "max_tokens": 5000,
        "system": [
            {"type": "text", "text": "One.", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "Two."},
        ],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "user", "content": "c"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm.", "signature": "x"},
                    {"type": "redacted_thinking", "data": "x"},
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "t1", "name": "read", "input": {"path": "ü"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t1",
                        "content": [{"type": "text", "text": "no"}],
                        "is_error": True,
                    },
                    {"type": "text", "text": "Go on."},
                ],
            },
        ],
        "tools": [TOOLS[0] | {"strict": True, "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "tool_choice": {"type": "tool", "name": "read", "disable_parallel_tool_use": True},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": schema}},
        "stop_sequences": ["x"],
        "metadata": {"user_id": "me"},
        "service_tier": "auto",
        "extra_body": {"temperature": 0, "top_p": 0.5, "top_k": 4},
        "extra_headers": {"anthropic-beta": "some-beta"},
    }
    await client.messages.create(**fields)
    (asked,) = served.admission.generations()
    assert asked.prompt == Chat(
        (
            {"role": "system", "content": "One.\nTwo."},
            {"role": "user", "content": "a\nb\nc"},
            {
                "role": "assistant",
                "content": "I look.",
                "reasoning_content": "Hm.",
                "tool_calls": [
                    {"id": "t1", "type": "function", "function": {"name": "read", "arguments": '{"path": "ü"}'}}
                ],
            },
            {"role": "tool", "tool_call_id": "t1", "content": "Error: no"},
            {"role": "user", "content": "Go on."},
        ),
        (
            {
                "type": "function",
                "function": {
                    "name": "read",
                    "description": "Read a file.",
                    "parameters": TOOLS[0]["input_schema"],
                    "strict": True,
                },
            },
        ),
        thinking=Thinking(enabled=True, effort="low", budget=1024),
    )
    assert (asked.max_tokens, asked.clip, asked.stop) == (5000, True, ("x",))
    assert asked.sampling == Sampling(temperature=0, top_p=0.5, top_k=4)
    assert asked.calling == Calling(required=True, only=("read",), parallel=False)
    assert asked.constraint == Constraint("json_schema", json.dumps(schema, separators=(",", ":")))


@pytest.mark.parametrize(
    ("choice", "calling", "shown"),
    [
        (None, None, 2),
        ({"type": "auto"}, None, 2),
        ({"type": "auto", "disable_parallel_tool_use": True}, Calling(parallel=False), 2),
        ({"type": "any"}, Calling(required=True), 2),
        ({"type": "none"}, None, 0),
    ],
)
async def test_tool_choice(served: Served, choice: Any, calling: Calling | None, shown: int) -> None:
    """Each choice says how the tools may be called; with `none` the model does not see them."""
    body = {"model": "m", "max_tokens": 9, "messages": HI, "tools": TOOLS, "tool_choice": choice}
    status, _, _ = await served.post("/v1/messages", body)
    assert status == 200
    (asked,) = served.admission.generations()
    assert asked.calling == calling
    assert isinstance(asked.prompt, Chat)
    assert len(asked.prompt.tools) == shown


async def test_a_final_assistant_message_is_continued(served: Served, client: anthropic.AsyncAnthropic) -> None:
    """It is what the answer begins with, without thoughts, and not one of the messages."""
    await client.messages.create(model="m", max_tokens=9, messages=[*HI, {"role": "assistant", "content": "The best"}])
    (asked,) = served.admission.generations()
    assert asked.prompt == Chat(
        ({"role": "user", "content": "Hi"},), thinking=Thinking(enabled=False), prefill="The best"
    )


async def test_tokens_are_counted_without_generating(served: Served, client: anthropic.AsyncAnthropic) -> None:
    """The prompt that is counted is the one that a message with the same fields would have."""
    served.admission.script = tells(Rendered((1, 2, 3), ""), Finished("stop", Usage(3, 0)))
    fields: Any = {"model": "m", "messages": HI, "tools": TOOLS, "system": "S", "thinking": {"type": "disabled"}}
    assert (await client.messages.count_tokens(**fields)).input_tokens == 3
    rendering = served.admission.submits()[0].generation
    served.admission.script = says("Hello")
    await client.messages.create(max_tokens=9, **fields)
    assert rendering == Rendering(served.admission.generations()[0].prompt, "tokens")


async def test_errors_are_the_clients_own(served: Served, client: anthropic.AsyncAnthropic) -> None:
    """What a model is refused for, or fails with, arrives as the exception that the client has for it."""
    ask: Any = {"model": "m", "max_tokens": 9, "messages": HI}
    for script, exception, kind in (
        (refuses(RefusalKind.QUEUE_FULL, retry_after=3), anthropic.RateLimitError, "rate_limit_error"),
        (refuses(RefusalKind.MODEL_LOADING), anthropic.InternalServerError, "overloaded_error"),
        (refuses(RefusalKind.INVALID_PROMPT), anthropic.BadRequestError, "invalid_request_error"),
        (fails(FailureKind.WORKER_DIED), anthropic.InternalServerError, "api_error"),
        (fails(FailureKind.TIMEOUT), anthropic.InternalServerError, "timeout_error"),
    ):
        served.admission.script = script
        with pytest.raises(exception) as error:
            await client.messages.create(**ask)
        assert error.value.type == kind
        assert error.value.request_id
        assert isinstance(error.value.body, dict)
        assert error.value.body["request_id"] == error.value.request_id
    with pytest.raises(anthropic.NotFoundError) as missing:
        await client.messages.create(**ask | {"model": "claude-opus-9"})
    assert missing.value.type == "not_found_error"
    assert missing.value.api_message is not None
    assert missing.value.api_message.startswith("model: ")


async def test_an_error_in_mid_stream_is_an_event(served: Served, client: anthropic.AsyncAnthropic) -> None:
    """The stream ends with `error`, which the client raises."""
    with gate() as broken:
        served.admission.script = waits(broken, fails(FailureKind.WORKER_DIED, "Hello"), before=(Accepted(5),))
        told = await events(served, broken.set)
    assert [name for name, _ in told][-1] == "error"
    assert told[-1][1]["error"] == {"type": "api_error", "message": "It broke."}
    with gate() as broken:
        served.admission.script = waits(broken, fails(FailureKind.WORKER_DIED, "Hello"), before=(Accepted(5),))
        async with client.messages.stream(model="m", max_tokens=9, messages=HI) as stream:
            broken.set()
            with pytest.raises(anthropic.APIStatusError) as error:
                await stream.get_final_message()
    assert error.value.type == "api_error"


async def test_silence_is_broken_by_pings(serve: Serve) -> None:
    """While nothing is written, an event `ping` says that the server is there: some clients count events only."""
    served = await serve(heartbeat_seconds=0.05)
    served.admission.script = is_silent()
    body = {"model": "m", "max_tokens": 9, "messages": HI, "stream": True}
    async with served.http.post("/v1/messages", json=body) as answer:
        assert (await answer.content.readuntil(b"\n\n")) == b'event: ping\ndata: {"type":"ping"}\n\n'
