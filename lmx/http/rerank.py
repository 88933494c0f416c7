"""POST /v1/rerank and /rerank, as Jina and Cohere have it: documents by their relevance to a query."""

import struct
from typing import Annotated, Any, Literal

from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType

from lmx.actors.messages.client import Embedded
from lmx.http.body import read
from lmx.http.embeddings import Usage
from lmx.http.errors import ApiError
from lmx.http.exchange import Exchange
from lmx.http.fields import convert
from lmx.http.gateway import GATEWAY, Gateway
from lmx.http.respond import send_json
from lmx.http.schemas import given_in
from lmx.machines.tasks import Embedding, Pair

MAX_DOCUMENTS = 2048
KNOWN = frozenset({"max_chunks_per_doc", "max_tokens_per_doc", "rank_fields", "truncation"})
"""Fields of other servers that lmx does not have: refused by name."""


class Document(Struct, frozen=True, forbid_unknown_fields=True):
    text: str


class RerankRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """None = not given, as null is."""

    model: str
    query: Annotated[str, Meta(min_length=1)]
    """Its bytes times the number of documents may be 32 MiB: it is read with each of them."""
    documents: Annotated[list[str | Document], Meta(min_length=1, max_length=MAX_DOCUMENTS)]
    top_n: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    """How many results are wanted, at most."""
    return_documents: bool | None = None

    def texts(self) -> list[str]:
        return [one if isinstance(one, str) else one.text for one in self.documents]


class Result(Struct, frozen=True):
    index: int
    relevance_score: float
    document: Document | UnsetType = UNSET


class Ranking(Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["list"] = "list"
    model: str
    results: list[Result]
    """The most relevant one first; equally relevant ones as they came."""
    usage: Usage


async def create(request: web.Request) -> web.StreamResponse:
    """Order documents by their relevance to a query."""
    asked, task = await read(request, lambda body: _asked(body, request.app[GATEWAY]))
    async with Exchange(request, "rerank", asked.model, [task], "documents") as exchange:
        (written,) = await exchange.collect()
        if not isinstance(written.answer, Embedded):
            raise TypeError(f"scores are answered with {written.answer!r}")
        tokens = sum(written.answer.tokens)
        results = ranked(asked, written.answer.vectors)
        ranking = Ranking(id=exchange.id, model=asked.model, results=results, usage=Usage(tokens, tokens))
        return await send_json(request, ranking)


def _asked(body: dict[str, Any], gateway: Gateway) -> tuple[RerankRequest, Embedding]:
    asked = convert(given_in(body, gateway), RerankRequest, {}, KNOWN)
    _check_size(asked, gateway.max_body_bytes)
    return asked, Embedding(tuple(Pair(asked.query, text) for text in asked.texts()), score=True)


def _check_size(asked: RerankRequest, most: int) -> None:
    """The query goes to the model with each document: a small body may come to gigabytes there."""
    count = len(asked.documents)
    size = count * len(asked.query.encode())
    if size > most:
        text = f"Invalid 'query': string too long. With each of {count} documents it comes to {size} bytes"
        raise ApiError(400, f"{text}; at most {most} are taken.", "string_above_max_length", "query")


def ranked(asked: RerankRequest, scores: bytes) -> list[Result]:
    texts = asked.texts()
    results = [
        Result(index, score, Document(texts[index]) if asked.return_documents else UNSET)
        for index, (score,) in enumerate(struct.iter_unpack("<f", scores))
    ]
    return sorted(results, key=lambda result: -result.relevance_score)[: asked.top_n]
