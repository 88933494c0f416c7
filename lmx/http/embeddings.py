"""POST /v1/embeddings."""

import asyncio
import struct
from base64 import b64encode
from typing import Annotated, Any, Literal, get_args

import msgspec
from aiohttp import web
from msgspec import Meta, Raw, Struct

from lmx.actors.messages.client import Embedded
from lmx.http import inputs
from lmx.http.body import read
from lmx.http.exchange import Exchange
from lmx.http.fields import convert
from lmx.http.gateway import GATEWAY, Gateway
from lmx.http.messages import Label
from lmx.http.respond import send_json
from lmx.http.sampling import TokenId
from lmx.http.schemas import given_in
from lmx.machines.tasks import Embedding

Encoding = Literal["float", "base64"]
MAX_INPUTS = 2048
InputText = Annotated[str, Meta(min_length=1)]


class EmbeddingRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """None = not given, as null is."""

    model: str
    input: InputText | Annotated[list[InputText | TokenId | inputs.Ids], Meta(min_length=1)]
    dimensions: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    encoding_format: Encoding | None = None
    user: Label | None = None
    """A label without effect."""

    def embedding(self) -> Embedding:
        """An ApiError for what no single field can tell."""
        return Embedding(tuple(inputs.read(self.input, "input", MAX_INPUTS)), dimensions=self.dimensions or 0)


class Usage(Struct, frozen=True):
    prompt_tokens: int
    total_tokens: int


class Row(Struct, frozen=True, kw_only=True):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: tuple[float, ...] | str


class Embeddings(Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Raw]
    model: str
    usage: Usage


async def create(request: web.Request) -> web.StreamResponse:
    """Make vectors of texts."""
    asked, task = await read(request, lambda body: _asked(body, request.app[GATEWAY]))
    async with Exchange(request, "embd", asked.model, [task], "input") as exchange:
        (written,) = await exchange.collect()
        if not isinstance(written.answer, Embedded):
            raise TypeError(f"embeddings are answered with {written.answer!r}")
        data = await asyncio.to_thread(rows, written.answer, asked.encoding_format or "float")
        tokens = sum(written.answer.tokens)
        return await send_json(request, Embeddings(data=data, model=asked.model, usage=Usage(tokens, tokens)))


def _asked(body: dict[str, Any], gateway: Gateway) -> tuple[EmbeddingRequest, Embedding]:
    choices = {"encoding_format": get_args(Encoding)}
    asked = convert(given_in(body, gateway), EmbeddingRequest, choices, frozenset())
    return asked, asked.embedding()


def rows(embedded: Embedded, encoding: Encoding) -> list[Raw]:
    """As JSON, one by one: millions of numbers at once would hold up everybody else."""
    size = 4 * embedded.width
    starts = range(0, len(embedded.vectors), size)
    return [
        Raw(msgspec.json.encode(Row(index=index, embedding=_written(embedded.vectors[at : at + size], encoding))))
        for index, at in enumerate(starts)
    ]


def _written(vector: bytes, encoding: Encoding) -> tuple[float, ...] | str:
    return b64encode(vector).decode() if encoding == "base64" else struct.unpack(f"<{len(vector) // 4}f", vector)
