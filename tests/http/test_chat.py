"""POST /v1/chat/completions as the official client sees it."""

import asyncio
from typing import Any

import openai
import pytest

from lmx.actors.messages import admission
from lmx.actors.messages.client import Accepted
from lmx.machines.types import Chat, FailureKind, RefusalKind, Sampling
from tests.http.conftest import Serve, Served
from tests.support.dummies import fails, gate, is_silent, refuses, says, talks_until_cancelled, waits

HI: Any = [{"role": "user", "content": "Hi"}]


OURS: Any = {
    "top_k": 4,
    "min_p": 0.1,
    "repetition_penalty": 1.5,
    "typical_p": 0.9,
    "top_n_sigma": 1.5,
    "xtc_probability": 0.5,
    "xtc_threshold": 0.2,
    "dry_multiplier": 0.8,
    "dry_base": 2,
    "dry_allowed_length": 3,
    "dry_penalty_last_n": 64,
    "dry_sequence_breakers": ["\n", "."],
    "ignore_eos": True,
    "min_tokens": 2,
    "truncate": "oldest",
    "priority": "batch",
    "lmx_cache": True,
}


async def read(stream: Any, texts: list[str]) -> None:
    async for chunk in stream:
        texts.append(chunk.choices[0].delta.content or "")  # noqa: PERF401 - what came before an error counts


async def test_a_reply_is_the_whole_text_with_its_usage(served: Served) -> None:
    """A chat without stream answers with one choice, its finish reason and what it cost, cached tokens included."""
    served.admission.script = says("Hello", " world", prompt=7, cached=3, reason="length")
    reply = await served.openai.chat.completions.create(model="m", messages=HI)
    assert reply.choices[0].message.content == "Hello world"
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage is not None
    assert reply.usage.prompt_tokens_details is not None
    counts = reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens
    assert counts == (7, 2, 9)
    assert reply.usage.prompt_tokens_details.cached_tokens == 3


async def test_a_stream_has_role_text_finish_and_usage_in_that_order(served: Served) -> None:
    """The chunks are: role, text, finish with an empty delta, and usage without choices when it was asked for."""
    stream = await served.openai.chat.completions.create(
        model="m", messages=HI, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    first, *middle, last, usage = chunks
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
    assert "".join(chunk.choices[0].delta.content or "" for chunk in middle) == "Hello world"
    assert last.choices[0].finish_reason == "stop"
    assert last.choices[0].delta.content is None
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.total_tokens == 7
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


async def test_what_is_asked_reaches_the_model(served: Served) -> None:
    """Every sampling field that lmx honours arrives in the Generation; messages arrive as plain text."""
    await served.openai.chat.completions.create(
        model="m",
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": "c", "name": "me"},
        ],
        max_completion_tokens=9,
        temperature=0,
        top_p=0.5,
        seed=-3,
        presence_penalty=1,
        frequency_penalty=-2,
        logit_bias={"5": -100},
        stop=["x", "yy"],
        user="me",
        metadata={"a": "b"},
        extra_body=OURS,
    )
    asked = served.admission.submits()[0]
    assert asked.model == "m"
    assert asked.client.startswith("127.0.0.1 ")
    (generation,) = served.admission.generations()
    assert generation.prompt == Chat(
        (
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "ab"},
            {"role": "assistant", "content": "c", "name": "me"},
        )
    )
    assert generation.sampling == Sampling(
        temperature=0,
        top_p=0.5,
        top_k=4,
        min_p=0.1,
        seed=-3,
        repetition_penalty=1.5,
        presence_penalty=1,
        frequency_penalty=-2,
        logit_bias={5: -100},
        typical_p=0.9,
        top_n_sigma=1.5,
        xtc_probability=0.5,
        xtc_threshold=0.2,
        dry_multiplier=0.8,
        dry_base=2,
        dry_allowed_length=3,
        dry_penalty_last_n=64,
        dry_sequence_breakers=("\n", "."),
    )
    assert generation.stop == ("x", "yy")
    assert generation.max_tokens == 9
    assert generation.ignore_eos
    assert generation.min_tokens == 2
    assert generation.truncate == "oldest"
    assert generation.priority == "batch"
    assert generation.explain_cache


async def test_null_is_the_same_as_not_given(served: Served) -> None:
    """Clients send null for what they do not set; none of it counts, not even for fields that lmx does not have."""
    nothing = dict.fromkeys(("temperature", "stop", "n", "tools", "seed", "stream_options", "logit_bias"))
    function = {"name": "f", "arguments": "{}"}
    calls = [{"id": "c", "type": "function", "function": function, "custom": None}]
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Hi", "image_url": None}], "tool_calls": None},
        {"role": "assistant", "content": None, "refusal": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c", "content": "1"},
    ]
    form = {"type": "text", "json_schema": None}
    body = {"model": "m", "messages": messages, "response_format": form, **nothing}
    status, _, answer = await served.post("/v1/chat/completions", body)
    assert status == 200, answer
    assert served.admission.generations()[0].sampling == Sampling()


async def test_without_a_model_the_default_answers(serve: Serve) -> None:
    """A gateway that has a default model serves requests that name none."""
    served = await serve(default_model="org/n")
    status, _, body = await served.post("/v1/chat/completions", {"messages": HI})
    assert (status, body["model"]) == (200, "org/n")


@pytest.mark.parametrize("stream", [False, True])
async def test_after_the_last_byte_the_sequence_is_released(served: Served, stream: bool) -> None:
    """A Submit that is answered is followed by one Release and no Cancel."""
    status = 0
    async with served.http.post("/v1/chat/completions", json={"model": "m", "messages": HI, "stream": stream}) as reply:
        status = reply.status
        await reply.read()
    assert status == 200
    assert await served.admission.ends() == [admission.Release(served.admission.submits()[0].request_id)]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_cancels_its_sequence(served: Served, stream: bool) -> None:
    """A closed connection becomes one Cancel, also while nothing is being written."""
    served.admission.script = is_silent(Accepted(5))
    asked = asyncio.create_task(served.post("/v1/chat/completions", {"model": "m", "messages": HI, "stream": stream}))
    await served.admission.submitted()
    asked.cancel()
    assert await served.admission.ends() == [admission.Cancel(served.admission.submits()[0].request_id)]


async def test_a_client_that_leaves_in_mid_stream_cancels(served: Served) -> None:
    """Also when tokens flow."""
    served.admission.script = talks_until_cancelled()
    stream = await served.openai.chat.completions.create(model="m", messages=HI, stream=True)
    async for _ in stream:
        break
    await stream.close()
    assert isinstance((await served.admission.ends())[0], admission.Cancel)


REFUSALS = [
    (RefusalKind.MODEL_NOT_FOUND, 404),
    (RefusalKind.INVALID_PROMPT, 400),
    (RefusalKind.INVALID_CONSTRAINT, 400),
    (RefusalKind.CONTEXT_LENGTH_EXCEEDED, 400),
    (RefusalKind.QUEUE_FULL, 429),
    (RefusalKind.MODEL_LOADING, 503),
    (RefusalKind.MODEL_LOAD_FAILED, 503),
    (RefusalKind.MODEL_QUARANTINED, 503),
    (RefusalKind.MODEL_UNLOADED, 503),
    (RefusalKind.INSUFFICIENT_MEMORY, 503),
    (RefusalKind.SAFE_MODE, 503),
    (RefusalKind.DRAINING, 503),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("kind", "status"), REFUSALS)
async def test_a_refusal_keeps_its_status(served: Served, kind: RefusalKind, status: int, stream: bool) -> None:
    """A refusal that comes before the headers is an ordinary HTTP error, streamed or not, with Retry-After."""
    served.admission.script = refuses(kind, "Because.", retry_after=1.2)
    got, headers, body = await served.post("/v1/chat/completions", {"model": "m", "messages": HI, "stream": stream})
    assert got == status
    assert body["error"]["code"] == kind.value
    assert body["error"]["message"] == "Because."
    assert headers["Retry-After"] == "2"
    assert len(await served.admission.ends()) == 1


@pytest.mark.parametrize(("kind", "status"), REFUSALS)
async def test_a_refusal_that_waiting_does_not_help_is_not_retried(
    served: Served, kind: RefusalKind, status: int
) -> None:
    """Without retry_after, clients are told not to try again; who asks for a 503's Retry-After still finds one."""
    served.admission.script = refuses(kind)
    _, headers, _ = await served.post("/v1/chat/completions", {"model": "m", "messages": HI})
    assert headers.get("x-should-retry") == ("false" if status >= 429 else None)
    assert ("Retry-After" in headers) == (status == 503)


FAILURES = [
    (FailureKind.WORKER_DIED, 500),
    (FailureKind.ENGINE_ERROR, 500),
    (FailureKind.TIMEOUT, 504),
    (FailureKind.ABORTED, 503),
    (FailureKind.INTERNAL, 500),
]


@pytest.mark.parametrize(("kind", "status"), FAILURES)
async def test_a_failure_without_stream_has_its_status(served: Served, kind: FailureKind, status: int) -> None:
    """A request that was taken and failed is a 5xx of type server_error; text that came before is not sent."""
    served.admission.script = fails(kind, "he", retry=False)
    got, headers, body = await served.post("/v1/chat/completions", {"model": "m", "messages": HI})
    assert (got, body["error"]["type"], body["error"]["code"]) == (status, "server_error", kind.value)
    assert headers["x-should-retry"] == "false"
    assert ("Retry-After" in headers) == (status == 503)
    assert await served.admission.ends() == [admission.Release(served.admission.submits()[0].request_id)]


async def test_a_failure_in_mid_stream_is_never_silent(served: Served) -> None:
    """After the headers are out, the official client raises APIError: no clean end, no lost text."""
    with gate() as go:
        served.admission.script = waits(gate=go, then=fails(FailureKind.WORKER_DIED, " more"), before=(Accepted(5),))
        stream = await served.openai.chat.completions.create(model="m", messages=HI, stream=True)
        go.set()
        texts: list[str] = []
        with pytest.raises(openai.APIError, match="It broke"):
            await read(stream, texts)
    assert "".join(texts) == " more"


async def test_a_refusal_after_the_heartbeat_is_an_event(serve: Serve) -> None:
    """A model that cannot be loaded after all refuses a stream whose headers are out: the client must see it."""
    served = await serve(heartbeat_seconds=0.05)
    with gate() as go:
        served.admission.script = waits(gate=go, then=refuses(RefusalKind.MODEL_LOAD_FAILED, "No such file."))
        stream = await served.openai.chat.completions.create(model="m", messages=HI, stream=True)
        go.set()
        with pytest.raises(openai.APIError, match="No such file"):
            await read(stream, [])
    assert isinstance((await served.admission.ends())[0], admission.Release)
