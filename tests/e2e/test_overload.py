"""Ten times as many clients as a model can serve: who is taken is served, who is not hears so at once."""

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from tests.support.server import Server

Serve = Callable[..., Server]

SLOTS, QUEUE, CLIENTS, SECONDS = 4, 8, 40, 4.0
STEP, TOKENS = 0.04, 10
SERVICE = STEP * (TOKENS + 1)
NARROW = f"""
guide = false
[admission]
queue = {QUEUE}
queue_per_client = 2
[models.m]
backend = "fake"
slots = {SLOTS}
script = "step={STEP}"
"""


@dataclass
class Try:
    status: int
    seconds: float
    """Until the first text, or until the refusal."""
    whole: bool
    """It came to its end."""
    retry_after: str


async def ask(session: aiohttp.ClientSession, key: str) -> Try:
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "x" * TOKENS}]}
    began, first, text = time.monotonic(), 0.0, b""
    async with session.post("/v1/chat/completions", json=body, headers={"Authorization": key}) as reply:
        async for line in reply.content:
            text += line
            if not first and (b'"content":"x' in line or reply.status != 200):
                first = time.monotonic() - began
        whole = reply.status != 200 or (b"data: [DONE]" in text and b'"error"' not in text)
        return Try(reply.status, first, whole, reply.headers.get("Retry-After", ""))


async def crowd(url: str) -> tuple[list[Try], list[Try]]:
    """One client, then CLIENTS of them that ask again at once, whatever they are told."""
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as session:
        calm = [await ask(session, "calm") for _ in range(5)]
        end = time.monotonic() + SECONDS

        async def insist(key: str) -> list[Try]:
            tries = []
            while time.monotonic() < end:
                tries.append(await ask(session, key))
                await asyncio.sleep(0.5 if tries[-1].status != 200 else 0)
            return tries

        every = await asyncio.gather(*(insist(f"c{number}") for number in range(CLIENTS)))
    return calm, [one for tries in every for one in tries]


def test_ten_times_as_many_clients(serve: Serve) -> None:
    """Promise "Overload 10x": who is taken waits for the bounded queue before it, no longer; a refusal takes 50 ms."""
    server = serve(NARROW).ready()
    server.loaded("m")
    calm, tries = asyncio.run(crowd(server.url))
    taken, refused = ([one for one in tries if (one.status == 200) is good] for good in (True, False))
    assert {one.status for one in tries} == {200, 429}
    assert all(one.whole for one in tries)
    assert all(1 <= int(one.retry_after) <= 60 for one in refused)
    assert statistics.median(one.seconds for one in refused) <= 0.05
    ahead = (QUEUE + 2) / SLOTS + 1
    late = statistics.quantiles((one.seconds for one in taken), n=100)[98]
    assert late <= 2 * (statistics.median(one.seconds for one in calm) + ahead * SERVICE)
    assert len(taken) >= 0.5 * SECONDS / SERVICE * SLOTS
    print(
        f"\ncalm {statistics.median(one.seconds for one in calm):.3f} s; taken {len(taken)}, p99 {late:.3f} s;"
        f" refused {len(refused)}, median {statistics.median(one.seconds for one in refused) * 1000:.1f} ms,"
        f" p99 {statistics.quantiles((one.seconds for one in refused), n=100)[98] * 1000:.1f} ms"
    )
    assert server.post("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "x"}]})[0] == 200


def test_a_request_in_a_hurry_times_out_with_504(serve: Serve) -> None:
    """The header reaches the model, and what it ends is free again."""
    server = serve(NARROW).ready()
    server.loaded("m")

    async def hurry() -> tuple[int, str]:
        body = {"model": "m", "messages": [{"role": "user", "content": "x" * 2000}]}
        async with (
            aiohttp.ClientSession(server.url) as session,
            session.post("/v1/chat/completions", json=body, headers={"x-request-timeout": "1"}) as reply,
        ):
            return reply.status, (await reply.json())["error"]["code"]

    assert asyncio.run(hurry()) == (504, "timeout")
    server.until(lambda: server.machine("model:m")["facts"]["in_flight"], lambda known: known == 0)
