"""The load client: what it stamps and counts, and who waits for whom."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from lmx.bench.client import carry_out
from lmx.bench.wire import Answer, Ask, Plan

Handler = Callable[[web.Request], AsyncIterator[bytes]]
DONE = b"data: [DONE]\n\n"


def event(text: str = "", **fields: object) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}], **fields}).encode() + b"\n\n"


async def asked(handler: Handler, *asks: Ask) -> tuple[Answer, ...]:
    """Serve `handler` on every path and carry out a plan."""

    async def respond(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async for piece in handler(request):
            await response.write(piece)
        return response

    application = web.Application()
    application.router.add_post("/v1/{route:.*}", respond)
    async with TestServer(application) as server:
        return (await carry_out(Plan(str(server.make_url("")).rstrip("/"), asks))).answers


async def test_it_counts_as_the_server_does() -> None:
    """Tokens are those of the usage chunk; a chunk without text is no stamp."""

    async def handler(_: web.Request) -> AsyncIterator[bytes]:
        yield event()
        yield event("Hello")
        yield b": ping\n\n"
        yield event(" world")[:20]
        yield event(" world")[20:]
        usage = {"prompt_tokens": 7, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 3}}
        yield b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n" + DONE

    [answer] = await asked(handler, Ask(body={}))
    assert (answer.text, answer.prompt, answer.tokens, answer.cached) == ("Hello world", 7, 5, 3)
    assert len(answer.stamps) == 2
    assert 0 < answer.sent < answer.first <= answer.stamps[1] <= answer.ended


async def test_a_server_that_does_not_count_has_written_a_token_a_chunk() -> None:
    """Peers may not know stream_options."""

    async def handler(_: web.Request) -> AsyncIterator[bytes]:
        for _number in range(3):
            yield event("x")
        yield DONE

    [answer] = await asked(handler, Ask(body={}))
    assert (answer.tokens, answer.prompt) == (3, 0)


async def test_one_request_waits_for_another_and_ends_it() -> None:
    """A stall: the second is sent when the first has written, and its end hangs up the first."""
    sent: list[str] = []
    second_done = asyncio.Event()

    async def handler(request: web.Request) -> AsyncIterator[bytes]:
        name = (await request.json())["name"]
        sent.append(name)
        yield event(f"{name} 1")
        if name == "second":
            second_done.set()
            return
        yield event("first 2")
        await second_done.wait()
        while True:
            yield event("more")
            await asyncio.sleep(0)

    first = Ask(body={"name": "first"}, until=1)
    answers = await asked(handler, first, Ask(body={"name": "second"}, after=(0, 1)))
    assert sent == ["first", "second"]
    assert [bool(answer.error) for answer in answers] == [False, False]
    assert answers[1].text == "second 1"


async def test_a_refusal_is_an_error_with_its_reason() -> None:
    """The status and what the server said."""
    application = web.Application()

    async def refuse(_: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "queue full"}}, status=429)

    application.router.add_post("/v1/chat/completions", refuse)
    async with TestServer(application) as server:
        [answer] = (await carry_out(Plan(str(server.make_url("")).rstrip("/"), (Ask(body={}),)))).answers
    assert answer.error.startswith("429 ")
    assert "queue full" in answer.error


async def test_an_error_in_the_stream_is_told() -> None:
    """Headers were out already, so the status is 200."""

    async def handler(_: web.Request) -> AsyncIterator[bytes]:
        yield event("a")
        yield b'data: {"error": {"message": "worker died"}}\n\n'

    [answer] = await asked(handler, Ask(body={}))
    assert "worker died" in answer.error


@pytest.mark.parametrize("url", ["http://127.0.0.1:1"])
async def test_nobody_there_is_an_error_too(url: str) -> None:
    """And not an exception of the client."""
    [answer] = (await carry_out(Plan(url, (Ask(body={}),)))).answers
    assert answer.error
