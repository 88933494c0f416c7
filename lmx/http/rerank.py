"""POST /v1/rerank and /rerank, as Jina and Cohere have it: documents by their relevance to a query."""

import struct
from typing import Annotated, Literal

from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType

from lmx.actors.messages.client import Embedded
from lmx.http.body import read_json
from lmx.http.embeddings import Usage
from lmx.http.exchange import Exchange
from lmx.http.fields import convert
from lmx.http.gateway import GATEWAY
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
    asked = convert(given_in(await read_json(request), request.app[GATEWAY]), RerankRequest, {}, KNOWN)
    pairs = tuple(Pair(asked.query, text) for text in asked.texts())
    async with Exchange(request, "rerank", asked.model, [Embedding(pairs, score=True)], "documents") as exchange:
        (written,) = await exchange.collect()
        if not isinstance(written.answer, Embedded):
            raise TypeError(f"scores are answered with {written.answer!r}")
        tokens = sum(written.answer.tokens)
        results = ranked(asked, written.answer.vectors)
        ranking = Ranking(id=exchange.id, model=asked.model, results=results, usage=Usage(tokens, tokens))
        return await send_json(request, ranking)


def ranked(asked: RerankRequest, scores: bytes) -> list[Result]:
    texts = asked.texts()
    results = [
        Result(index, score, Document(texts[index]) if asked.return_documents else UNSET)
        for index, (score,) in enumerate(struct.iter_unpack("<f", scores))
    ]
    return sorted(results, key=lambda result: -result.relevance_score)[: asked.top_n]
