"""B99: every bad input in any order, with valid requests in between, many at a time."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import psutil
import yarl

from tests.data import bad_inputs
from tests.data.bad_inputs import CHAT, COMPLETIONS, EMBEDDINGS, JSON
from tests.support.server import Server

CONFIG = 'guide = false\n[models.m]\nbackend = "fake"\nscript = "step=0.001"\n'
"""A model that answers with its prompt, under the name that the bad inputs ask for."""
WIDTH = 16
"""Requests at a time."""
WARM = 0.1
"""Share of the requests after which memory counts."""
MEBIBYTE = 1024 * 1024
Ask = Callable[[aiohttp.ClientSession], Awaitable[None]]


class Wrong(Exception):
    """An answer that was not what was due; a sentence."""


@dataclass
class Outcome:
    statuses: Counter[int] = field(default_factory=Counter)
    valid: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0
    grown: int = 0
    """Bytes of the server's process, since it was warm."""
    deaths: int = 0

    def __str__(self) -> str:
        told = ", ".join(f"{count} of {status}" for status, count in sorted(self.statuses.items()))
        return (
            f"{sum(self.statuses.values())} requests, {self.valid} of them valid: {told}; {len(self.wrong)} wrong"
            f" answers, {self.deaths} deaths of workers, memory {self.grown / MEBIBYTE:+.1f} MiB, {self.seconds:.0f} s"
        )


async def run(server: Server, count: int, seed: int = 1) -> Outcome:
    """A quarter of `count` requests is valid. The server has CONFIG."""
    run, process, worker = _Run(server.url, Random(seed)), psutil.Process(server.pid), server.worker("m")
    loop = asyncio.get_running_loop()
    begun, warm = loop.time(), int(count * WARM)
    await run.ask(warm)
    before = process.memory_info().rss
    await run.ask(count - warm)
    run.outcome.grown = process.memory_info().rss - before
    run.outcome.seconds = loop.time() - begun
    facts = await asyncio.to_thread(server.machine, "model:m")
    run.outcome.deaths = int(facts["state"] != "ready" or facts["facts"]["pid"] != worker)
    return run.outcome


class _Run:
    def __init__(self, url: str, chance: Random) -> None:
        self._url = url
        self._chance = chance
        self._bad = _bad()
        self.outcome = Outcome()

    async def ask(self, count: int) -> None:
        asks = iter([self._next() for _ in range(count)])
        async with aiohttp.ClientSession(self._url, timeout=aiohttp.ClientTimeout(total=60)) as http:
            await asyncio.gather(*(self._work(http, asks) for _ in range(WIDTH)))

    async def _work(self, http: aiohttp.ClientSession, asks: Any) -> None:
        for valid, send in asks:
            try:
                status = await send(http)
            except (Wrong, aiohttp.ClientError, TimeoutError) as error:
                self.outcome.wrong.append(repr(error)[:300])
                continue
            self.outcome.statuses[status] += 1
            self.outcome.valid += valid

    def _next(self) -> tuple[bool, Callable[[aiohttp.ClientSession], Awaitable[int]]]:
        if self._chance.random() < 0.25:
            text = f"{self._chance.getrandbits(64):016x}"
            kind = self._chance.choice((_whole, _streamed, _completed))
            return True, lambda http: kind(http, text)
        return False, self._chance.choice(self._bad)


def _bad() -> list[Callable[[aiohttp.ClientSession], Awaitable[int]]]:
    rows = ((CHAT, bad_inputs.CHATS), (COMPLETIONS, bad_inputs.TEXTS), (EMBEDDINGS, bad_inputs.VECTORS))
    fields = [
        bad_inputs.Request(name=row[0], path=path, sent=json.dumps(row[1]).encode(), code=row[2])
        for path, table in rows
        for row in table
    ]
    plain = [one for one in bad_inputs.REQUESTS if not one.locked and not one.limit]
    sent = [_sender(one) for one in (*fields, *plain)]
    return sent + [_raw(data, status) for _, data, status, _ in bad_inputs.WIRE]


def _sender(one: bad_inputs.Request) -> Callable[[aiohttp.ClientSession], Awaitable[int]]:
    async def send(http: aiohttp.ClientSession) -> int:
        url = yarl.URL(str(http._base_url).rstrip("/") + one.path, encoded=True)
        options: Any = {"data": one.sent, "headers": one.headers, "skip_auto_headers": ["Content-Type"]}
        async with http.request(one.method, url, **options) as reply:
            error = (await reply.json())["error"]
        _expect(reply.status == one.status and error["code"] == one.code, one.name, reply.status, error)
        return reply.status

    return send


def _raw(data: bytes, status: int) -> Callable[[aiohttp.ClientSession], Awaitable[int]]:
    async def send(http: aiohttp.ClientSession) -> int:
        where = urlsplit(str(http._base_url))
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        writer.write(data)
        try:
            answer = await asyncio.wait_for(reader.read(), 20)
        except ConnectionResetError:  # closed before all of it was sent
            return status
        finally:
            writer.close()
        _expect(answer.split(b" ")[1:2] == [b"%d" % status], data[:80], answer[:80])
        return status

    return send


async def _whole(http: aiohttp.ClientSession, text: str) -> int:
    async with http.post(CHAT, json=_chat(text)) as reply:
        body = await reply.json()
    _expect(reply.status == 200 and body["choices"][0]["message"]["content"] == text, reply.status, body)
    return reply.status


async def _streamed(http: aiohttp.ClientSession, text: str) -> int:
    async with http.post(CHAT, json=_chat(text, stream=True)) as reply:
        events = [line[6:] for line in (await reply.text()).split("\n\n") if line.startswith("data: ")]
    _expect(reply.status == 200 and events[-1] == "[DONE]", reply.status, events[-2:])
    chunks = [json.loads(event)["choices"][0] for event in events[:-1]]
    _expect("".join(chunk["delta"].get("content") or "" for chunk in chunks) == text, events)
    return reply.status


async def _completed(http: aiohttp.ClientSession, text: str) -> int:
    asked = {"model": "m", "prompt": text, "max_tokens": 100}
    async with http.post(COMPLETIONS, json=asked, headers=JSON) as reply:
        body = await reply.json()
    _expect(reply.status == 200 and body["choices"][0]["text"] == text, reply.status, body)
    return reply.status


def _chat(text: str, **fields: Any) -> Any:
    return bad_inputs.chat(**fields) | {"messages": [{"role": "user", "content": text}]}


def _expect(good: bool, *found: object) -> None:
    if not good:
        raise Wrong(" ".join(str(one)[:200] for one in found))
