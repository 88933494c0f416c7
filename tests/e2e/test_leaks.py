"""Nothing is left behind by clients that go away."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import aiohttp
import psutil
import pytest

from tests.support.guide import GGUF, MLX
from tests.support.server import Server

Serve = Callable[..., Server]

MODELS = {
    "fake": '[models.m]\nbackend = "fake"\nscript = "step=0.005"\nslots = 4\n',
    "llama_cpp": f'[models.m]\npath = "{GGUF}"\ncontext = 512\nslots = 4\n',
    "mlx": f'[models.m]\npath = "{MLX}"\ncontext = 512\nslots = 4\n',
}


def counted(server: Server, worker: int) -> tuple[int, ...]:
    """File descriptors and threads of the daemon and of the worker, and the daemon's children."""
    daemon, child = psutil.Process(server.pid), psutil.Process(worker)
    own = (daemon.num_fds(), daemon.num_threads(), child.num_fds(), child.num_threads())
    return (*own, len(daemon.children(recursive=True)))


async def give_up(url: str, count: int, seed: int) -> tuple[int, int]:
    """`count` clients that leave at a random moment; how many left before their end, and how many were answered."""
    chance = random.Random(seed)

    async def one(session: aiohttp.ClientSession) -> bool:
        body = {
            "model": "m",
            "messages": [{"role": "user", "content": "word " * chance.randint(1, 60)}],
            "max_tokens": 150,
            "ignore_eos": True,
            "stream": chance.random() < 0.7,
        }
        try:
            async with asyncio.timeout(chance.uniform(0.0, 0.6)):
                async with session.post(url + "/v1/chat/completions", json=body) as answer:
                    await answer.read()
        except TimeoutError:
            return True
        return False

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as session:
        left = await asyncio.gather(*(one(session) for _ in range(count)))
    return sum(left), len(left) - sum(left)


@pytest.mark.parametrize("backend", MODELS)
async def test_cancelled_requests_leave_nothing(serve: Serve, backend: str) -> None:
    """100 requests cancelled at random moments: no slot, KV cell, thread, descriptor or process is left."""
    server = serve("guide = false\n" + MODELS[backend]).ready()
    worker = server.worker("m")
    ask = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}

    def at_rest() -> Any:
        """After an ordinary request, with nothing in flight."""
        assert server.post("/v1/chat/completions", ask)[0] == 200
        return server.until(
            lambda: server.machine("model:m")["facts"],
            lambda facts: facts["in_flight"] == 0 and facts.get("kv_used") == 0,
        )

    await asyncio.to_thread(at_rest)
    await give_up(server.url, 10, seed=1)
    await asyncio.to_thread(at_rest)
    before = await asyncio.to_thread(counted, server, worker)
    gone, answered = await give_up(server.url, 100, seed=2)
    assert gone > 10, answered
    facts = await asyncio.to_thread(at_rest)
    assert facts["pid"] == worker
    await asyncio.to_thread(server.until, lambda: counted(server, worker), lambda now: now <= before, 10.0)
    admission = server.machine("admission")
    assert admission["state"] == "open"
    metrics = server.get("/metrics")[1]
    assert "lmx_in_flight 0.0" in metrics
