"""The bytes of a stream."""

import json
from typing import Any

import pytest

from lmx.actors.messages import admission
from lmx.actors.messages.client import Accepted, Delta, Finished, Prefilled
from lmx.machines.types import FailureKind, RefusalKind, Usage
from tests.http.conftest import Serve, Served
from tests.support.dummies import fails, gate, is_silent, refuses, says, talks_until_cancelled, tells, waits

ASKED: Any = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}


async def raw(served: Served, path: str = "/v1/chat/completions", **fields: Any) -> tuple[Any, str]:
    async with served.http.post(path, json=ASKED | fields) as reply:
        return reply, (await reply.read()).decode()


def blocks(text: str) -> list[str]:
    assert text.endswith("\n\n")
    return text.removesuffix("\n\n").split("\n\n")


async def test_a_stream_is_data_lines_and_ends_with_done(served: Served) -> None:
    """H6: `data:` lines with JSON, `[DONE]` last; no ids, no empty data, no cache, no proxy buffering."""
    reply, text = await raw(served)
    assert reply.headers["Content-Type"].startswith("text/event-stream")
    assert reply.headers["Cache-Control"] == "no-cache"
    assert reply.headers["X-Accel-Buffering"] == "no"
    *events, done = blocks(text)
    assert done == "data: [DONE]"
    assert all(json.loads(event.removeprefix("data: "))["object"] == "chat.completion.chunk" for event in events)
    assert "usage" not in text


async def test_silence_before_the_first_token_is_filled_with_comments(serve: Serve) -> None:
    """While a model loads, the client gets its headers and a comment after one heartbeat, then one per heartbeat."""
    served = await serve(heartbeat_seconds=0.02)
    with gate() as go:
        served.admission.script = waits(go, says("Hello"))
        async with served.http.post("/v1/chat/completions", json=ASKED) as reply:
            for _ in range(3):
                assert await reply.content.readuntil(b"\n\n") == b": ping\n\n"
            go.set()
            rest = (await reply.read()).decode()
    assert rest.endswith("data: [DONE]\n\n")
    assert '"content":"Hello"' in rest


async def test_after_the_first_token_silence_is_not_filled_at_once(serve: Serve) -> None:
    """Between tokens the heartbeat is slow: nothing but tokens where pauses are short."""
    served = await serve(heartbeat_seconds=0.01)
    served.admission.script = talks_until_cancelled(pause=0.05)
    async with served.http.post("/v1/chat/completions", json=ASKED) as reply:
        while b"word" not in await reply.content.readuntil(b"\n\n"):
            pass
        later = [await reply.content.readuntil(b"\n\n") for _ in range(3)]
    assert all(b"word" in block for block in later)


async def test_prefill_progress_is_not_shown(served: Served) -> None:
    """Prefilled is progress, not text."""
    served.admission.script = tells(Accepted(5), Prefilled(2), Prefilled(5), Delta("x"), Finished("stop", Usage(5, 1)))
    _, text = await raw(served)
    assert len(blocks(text)) == 4


async def test_a_failure_is_an_error_event_then_done(served: Served) -> None:
    """H4, H5: after the headers, a failure nests under `error` with all four fields, and the stream still ends."""
    served.admission.script = fails(FailureKind.WORKER_DIED, "he")
    with gate() as go:
        served.admission.script = waits(go, served.admission.script, before=(Accepted(1),))
        async with served.http.post("/v1/chat/completions", json=ASKED) as reply:
            go.set()
            text = (await reply.read()).decode()
    *_, error, done = blocks(text)
    assert done == "data: [DONE]"
    told = json.loads(error.removeprefix("data: "))["error"]
    assert set(told) == {"message", "type", "param", "code"}
    assert (told["type"], told["code"]) == ("server_error", "worker_died")
    assert '"content":"he"' in text
    assert '"finish_reason":"' not in text


@pytest.mark.parametrize("stream", [False, True])
async def test_several_prompts_are_several_sequences(served: Served, stream: bool) -> None:
    """One HTTP request, one choice per prompt in its order, one usage for all, each sequence released once."""

    def echoes(submit: admission.Submit, cancelled: Any) -> None:
        says(submit.generation.prompt.text.upper(), prompt=2)(submit, cancelled)  # type: ignore[union-attr]

    served.admission.script = echoes
    asked = {"model": "m", "prompt": ["a", "b", "c"], "stream": stream}
    if stream:
        asked["stream_options"] = {"include_usage": True}
        async with served.http.post("/v1/completions", json=asked) as reply:
            *events, _ = blocks((await reply.read()).decode())
        chunks = [json.loads(event.removeprefix("data: ")) for event in events]
        texts = {choice["index"]: choice["text"] for chunk in chunks for choice in chunk["choices"] if choice["text"]}
        usage = chunks[-1]["usage"]
    else:
        _, _, body = await served.post("/v1/completions", asked)
        texts = {choice["index"]: choice["text"] for choice in body["choices"]}
        usage = body["usage"]
    assert texts == {0: "A", 1: "B", 2: "C"}
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (6, 3)
    names = [submit.request_id for submit in served.admission.submits()]
    assert len(set(names)) == 3
    assert sorted(end.request_id for end in await served.admission.ends(3)) == sorted(names)
    assert all(isinstance(end, admission.Release) for end in await served.admission.ends(3))


async def test_one_refused_prompt_refuses_the_request_and_cancels_the_others(served: Served) -> None:
    """No half answers: the other sequences stop, and each one is settled exactly once."""

    def act(submit: admission.Submit, cancelled: Any) -> None:
        bad = submit.request_id.endswith("-1")
        (refuses(RefusalKind.QUEUE_FULL, "Full.", 3) if bad else is_silent(Accepted(1)))(submit, cancelled)

    served.admission.script = act
    status, headers, _ = await served.post("/v1/completions", {"model": "m", "prompt": ["a", "b", "c"]})
    assert (status, headers["Retry-After"]) == (429, "3")
    ends = {end.request_id[-1]: type(end) for end in await served.admission.ends(3)}
    assert ends == {"0": admission.Cancel, "1": admission.Release, "2": admission.Cancel}
    assert len(await served.admission.ends(3)) == 3


async def test_a_client_of_the_old_http_gets_its_stream_unframed(served: Served) -> None:
    """HTTP/1.0 knows no chunks: the events come as they are, and the connection's end is theirs."""
    served.admission.script = says("a", "b", "c")
    reader, writer = await served.connect()
    body = json.dumps(ASKED).encode()
    writer.write(b"POST /v1/chat/completions HTTP/1.0\r\nHost: x\r\nContent-Type: application/json\r\n")
    writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
    head, _, rest = (await reader.read()).partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert all(block.startswith("data: ") for block in blocks(rest.decode()))
    assert rest.endswith(b"data: [DONE]\n\n")
