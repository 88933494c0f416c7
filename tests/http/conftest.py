"""A real server on a free port, with dummies behind it and the official client in front."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from openai import AsyncOpenAI

from lmx.http import application
from lmx.http.gateway import Gateway
from tests.support.dummies import DummyAdmission, DummyJournal, DummyPhysician, view
from tests.support.inbox import Inbox


class Served:
    """One running server."""

    def __init__(self, gateway: Gateway, admission: DummyAdmission, journal: DummyJournal) -> None:
        self.gateway = gateway
        self.admission = admission
        self.journal = journal
        self.port = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.http: aiohttp.ClientSession
        self.openai: AsyncOpenAI

    async def post(self, path: str, json: Any, **options: Any) -> tuple[int, Any, Any]:
        """Status, headers and body."""
        async with self.http.post(path, json=json, **options) as reply:
            return reply.status, reply.headers, await reply.json()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A raw connection, closed with the server."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        return reader, writer

    async def close(self) -> None:
        for writer in self.writers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
        await self.http.close()
        await self.openai.close()

    async def get(self, path: str) -> tuple[int, Any, Any]:
        async with self.http.get(path) as reply:
            is_json = reply.content_type == "application/json"
            return reply.status, reply.headers, await (reply.json() if is_json else reply.text())


Serve = Callable[..., Awaitable[Served]]


def draw(machine: str, state: str | None, form: str) -> str:
    return f"{form} of {machine} in {state}"


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a server; keyword arguments are fields of the gateway."""
    running: list[tuple[application.Site, Served]] = []

    async def start(**fields: Any) -> Served:
        admission = DummyAdmission()
        journal = DummyJournal(
            view("server", "serving", "Server"), view("model:m", "ready", context=4096), view("model:org/n", "unloaded")
        )
        gateway = Gateway(
            admission=admission,
            journal=journal,
            crash_loop=Inbox(),
            physician=DummyPhysician(),
            prove=lambda _: None,
            models=("m", "org/n"),
            diagram=draw,
            started=1_700_000_000,
        )
        served = Served(replace(gateway, **fields), admission, journal)
        site = await application.start(application.build(served.gateway), "127.0.0.1", 0, shutdown_seconds=2)
        served.port = site.port
        served.http = aiohttp.ClientSession(f"http://127.0.0.1:{site.port}")
        served.openai = AsyncOpenAI(api_key="none", base_url=f"http://127.0.0.1:{site.port}/v1", max_retries=0)
        running.append((site, served))
        return served

    yield start
    for site, served in running:
        await served.close()
        await site.stop()


@pytest.fixture
async def served(serve: Serve) -> Served:
    return await serve()
