"""A plain client of a served model: JSON in, JSON out, many requests at a time."""

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp

from tests.support.guide import GGUF, MLX
from tests.support.server import Server

T = TypeVar("T")
Json = dict[str, Any]

FILES = {"gguf": GGUF, "mlx": MLX}
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


def guide(name: str, file: Path, **fields: object) -> str:
    """A table of the config: the embedded model under this name."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in fields.items()]
    return "\n".join([f"[models.{name}]", f'path = "{file}"', *lines, ""])


@contextmanager
def serving(folder: Path, *tables: str) -> Iterator[Server]:
    """A server with exactly these models, all of them loaded; it must end well."""
    server = Server(folder, "\n".join(["guide = false", *tables])).ready()
    names = [model["id"] for model in server.get("/v1/models")[1]["data"]]
    for name in names:
        server.loaded(name)
    yield server
    assert server.stop() == 0, server.log[-10:]


def user(text: str, system: str = "") -> list[Json]:
    lead = [{"role": "system", "content": system}] if system else []
    return [*lead, {"role": "user", "content": text}]


async def together(*asked: Coroutine[Any, Any, T], width: int = 8) -> list[T]:
    """All of them, at most `width` at a time, in the order in which they are given."""
    gate = asyncio.Semaphore(width)

    async def one(coroutine: Coroutine[Any, Any, T]) -> T:
        async with gate:
            return await coroutine

    return await asyncio.gather(*map(one, asked))


class Asking:
    """`async with Asking(url, model=..., temperature=0)`: the fields go into every request."""

    def __init__(self, url: str, **fields: object) -> None:
        self._url = url
        self._fields = fields

    async def __aenter__(self) -> Self:
        connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=60)
        self._session = aiohttp.ClientSession(self._url, connector=connector, timeout=timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def post(self, path: str, **body: object) -> tuple[int, Json]:
        async with self._session.post(path, json=self._fields | body) as answer:
            return answer.status, await answer.json()

    async def ok(self, path: str, **body: object) -> Json:
        status, reply = await self.post(path, **body)
        assert status == 200, reply
        return reply

    async def refused(self, path: str, **body: object) -> Json:
        """The error of a 400."""
        status, reply = await self.post(path, **body)
        assert status == 400, reply
        error: Json = reply["error"]
        return error

    async def chat(self, messages: list[Json], **body: object) -> str:
        return text_of(await self.ok(CHAT, messages=messages, **body))

    async def chunks(self, path: str, **body: object) -> AsyncGenerator[Json]:
        """Those of a streamed answer, which must end with [DONE]; leaving early closes the connection."""
        async with self._session.post(path, json=self._fields | {"stream": True} | body) as answer:
            assert answer.status == 200, await answer.text()
            last = ""
            async for line in answer.content:
                if line.startswith(b"data: "):
                    last = line[6:].decode().strip()
                    if last != "[DONE]":
                        yield json.loads(last)
            assert last == "[DONE]", last

    async def streamed(self, path: str, *, leave_after: int | None = None, **body: object) -> str:
        """The text of its one choice; only the beginning of it when the client leaves after so many chunks."""
        text, seen = "", 0
        async with aclosing(self.chunks(path, **body)) as chunks:
            async for chunk in chunks:
                assert "error" not in chunk, chunk
                text += "".join(_delta(choice) for choice in chunk["choices"])
                seen += 1
                if seen == leave_after:
                    break
        return text


def text_of(reply: Json) -> str:
    """Of the only choice."""
    (text,) = texts(reply)
    return text


def texts(reply: Json) -> list[str]:
    choices: Iterable[Json] = reply["choices"]
    return [choice["message"]["content"] if "message" in choice else choice["text"] for choice in choices]


def cached(reply: Json) -> int:
    return int(reply["usage"]["prompt_tokens_details"]["cached_tokens"])


def _delta(choice: Json) -> str:
    text: str = choice["delta"].get("content") or "" if "delta" in choice else choice["text"]
    return text
