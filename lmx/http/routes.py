"""Every route, told once: the router and the description of the API (lmx/http/openapi.py) are both made from this."""

from collections.abc import Mapping
from typing import Any

from aiohttp.typedefs import Handler
from msgspec import Struct

from lmx.actors.messages.crash_loop import Released
from lmx.actors.messages.journal import Board
from lmx.actors.messages.journal import Page as JournalPage
from lmx.http import (
    admin,
    aliases,
    chaos,
    chat,
    checks,
    completions,
    discovery,
    embeddings,
    health,
    inventory,
    journal,
    models,
    readiness,
    replies,
    rerank,
    tokens,
)
from lmx.http.adapters import Body as Adapters
from lmx.http.anthropic import routes as anthropic
from lmx.http.anthropic.envelope import Envelope as AnthropicEnvelope
from lmx.http.anthropic.events import Event as AnthropicEvent
from lmx.http.anthropic.reply import Message, TokenCount
from lmx.http.anthropic.request import CountRequest, MessagesRequest
from lmx.http.chat_request import ChatRequest
from lmx.http.completion_request import CompletionRequest
from lmx.http.errors import Envelope
from lmx.http.responses import listing
from lmx.http.responses import routes as responses
from lmx.http.responses.events import AnyEvent
from lmx.http.responses.reply import Response
from lmx.http.responses.request import ResponseRequest

RUNS = (404, 409, 429, 503, 504)
"""How what a model is asked to do may be refused or fail."""
SETTLES = (404, 503, 504)


class Route(Struct, frozen=True):
    """`handler`'s docstring says what it is for: the first line is the summary."""

    method: str
    path: str
    """As aiohttp's router has it."""
    handler: Handler
    tag: str
    gives: Any = None
    """What the JSON of a 200 is."""
    asks: type[Struct] | None = None
    """What the JSON of a request is."""
    example: Mapping[str, Any] = {}
    """A body that the embedded model answers; `reranker` stands for one that ranks."""
    streams: Any = None
    """What the JSON of each event is, with `"stream": true`."""
    fails: tuple[int, ...] = ()
    """Statuses besides those that every route may answer with."""
    otherwise: Mapping[int, Any] = {}
    """What the JSON is of statuses that are no errors in the envelope."""
    texts: tuple[str, ...] = ()
    """Content types of a 200 that is no JSON."""
    query: type[Struct] | None = None
    """What the URL may ask for."""
    error: type[Struct] = Envelope


MODEL = "lmx-guide"
RANKED = {"model": "reranker", "query": "how to start", "documents": ["Run scripts/serve.", "Fish swim."]}
ASKED = {"model": MODEL, "messages": [{"role": "user", "content": "What is lmx?"}]}

ROUTES: tuple[Route, ...] = (
    Route(
        "POST", "/v1/chat/completions", chat.create, "Chat", replies.ChatCompletion, ChatRequest,
        ASKED | {"max_tokens": 32}, replies.ChatChunk, RUNS,
    ),
    Route(
        "POST", "/v1/completions", completions.create, "Completions", replies.TextCompletion, CompletionRequest,
        {"model": MODEL, "prompt": "lmx is", "max_tokens": 16}, replies.TextCompletion, RUNS,
    ),
    Route(
        "POST", "/v1/responses", responses.create, "Responses", Response, ResponseRequest,
        {"model": MODEL, "input": "What is lmx?", "max_output_tokens": 32}, AnyEvent, RUNS,
    ),
    Route(
        "POST", "/v1/responses/input_tokens", responses.count, "Responses", responses.InputTokens, ResponseRequest,
        {"model": MODEL, "input": "What is lmx?"}, None, RUNS,
    ),
    Route(
        "GET", "/v1/responses/{id}", responses.retrieve, "Responses", Response,
        fails=(404,), query=responses.RetrieveQuery,
    ),
    Route("DELETE", "/v1/responses/{id}", responses.delete, "Responses", responses.Deleted, fails=(404,)),
    Route("POST", "/v1/responses/{id}/cancel", responses.cancel, "Responses", Response, fails=(404,)),
    Route(
        "GET", "/v1/responses/{id}/input_items", responses.input_items, "Responses", listing.Items,
        fails=(404,), query=listing.ItemQuery,
    ),
    Route(
        "POST", "/v1/embeddings", embeddings.create, "Embeddings", embeddings.Embeddings, embeddings.EmbeddingRequest,
        {"model": MODEL, "input": ["a text", "another one"]}, None, RUNS,
    ),
    Route(
        "POST", "/v1/rerank", rerank.create, "Embeddings", rerank.Ranking, rerank.RerankRequest,
        RANKED, None, RUNS,
    ),
    Route(
        "POST", "/rerank", rerank.create, "Embeddings", rerank.Ranking, rerank.RerankRequest,
        RANKED, None, RUNS,
    ),
    Route(
        "POST", "/v1/messages", anthropic.create, "Messages", Message, MessagesRequest,
        ASKED | {"max_tokens": 32}, AnthropicEvent, RUNS, error=AnthropicEnvelope,
    ),
    Route(
        "POST", "/v1/messages/count_tokens", anthropic.count_tokens, "Messages", TokenCount, CountRequest,
        ASKED, None, RUNS, error=AnthropicEnvelope,
    ),
    Route(
        "POST", "/tokenize", tokens.tokenize, "Tokens", tokens.Tokenized, tokens.TokenizeRequest,
        {"model": MODEL, "content": "Hello"}, None, RUNS,
    ),
    Route(
        "POST", "/detokenize", tokens.detokenize, "Tokens", tokens.Content, tokens.DetokenizeRequest,
        {"model": MODEL, "tokens": [72, 105]}, None, RUNS,
    ),
    Route(
        "POST", "/apply-template", tokens.apply_template, "Tokens", tokens.Prompt, tokens.TemplateRequest,
        ASKED, None, RUNS,
    ),
    Route("GET", "/v1/models", models.listing, "Models", replies.Models),
    Route("GET", "/v1/models/{id:.+}", models.retrieve, "Models", replies.Model, fails=(404,)),
    Route("GET", "/v1/discovery", discovery.read, "Models", discovery.Discovery),
    Route("GET", "/.well-known/lmx", discovery.well_known, "Models", discovery.Discovery),
    Route("GET", "/healthz", health.live, "Health", health.Alive),
    Route("GET", "/livez", health.live, "Health", health.Alive),
    Route("GET", "/startupz", health.started, "Health", health.Started, otherwise={503: health.Started}),
    Route("GET", "/readyz", health.ready, "Health", readiness.Readiness, otherwise={503: readiness.Readiness}),
    Route("GET", "/metrics", health.metrics, "Health", texts=("text/plain",)),
    Route("GET", "/admin/health", health.deep, "Admin", checks.Health, otherwise={503: checks.Health}),
    Route("GET", "/admin/journal", journal.read, "Admin", JournalPage, fails=(404, 503), query=journal.Query),
    Route("GET", "/admin/machines", admin.machines, "Admin", Board, fails=(503,)),
    Route(
        "GET", "/admin/machines/{actor:.+}/diagram", admin.diagram, "Admin",
        fails=(404, 503), texts=tuple(admin.FORMATS.values()), query=admin.DiagramQuery,
    ),
    Route("GET", "/admin/models", admin.models, "Admin", inventory.AdminModels, fails=(503,)),
    Route("POST", "/admin/models/{id:.+}/load", admin.load, "Admin", admin.ModelState, fails=SETTLES),
    Route("POST", "/admin/models/{id:.+}/unload", admin.unload, "Admin", admin.ModelState, fails=SETTLES),
    Route(
        "POST", "/admin/models/{id:.+}/adapters", admin.adapt, "Admin", admin.ModelState, Adapters,
        {"adapters": []}, fails=SETTLES,
    ),
    Route("GET", "/admin/aliases", aliases.listing, "Admin", list[aliases.Alias], fails=(503,)),
    Route(
        "POST", "/admin/aliases/{alias:.+}", aliases.swap, "Admin", aliases.Alias, aliases.Wanted,
        {"model": MODEL}, fails=(409, *SETTLES),
    ),
    Route("POST", "/admin/safe-mode/release", admin.end_safe_mode, "Admin", Released, fails=(504,)),
    Route("POST", "/admin/chaos/{what}", chaos.act, "Admin", chaos.Done, chaos.Wanted, {"of": MODEL}, fails=(503,)),
)  # fmt: skip
