"""POST /tokenize, /detokenize and /apply-template, as llama-server and vLLM have them: nothing is generated."""

from typing import Annotated, Any

from aiohttp import web
from msgspec import Meta, Struct

from lmx.actors.messages.client import Rendered
from lmx.http.body import read
from lmx.http.errors import ApiError
from lmx.http.exchange import Exchange
from lmx.http.fields import convert, unsupported
from lmx.http.gateway import GATEWAY, Gateway
from lmx.http.messages import Message, told
from lmx.http.respond import send_json
from lmx.http.sampling import TokenId
from lmx.http.schemas import CHOICES, KNOWN, given_in
from lmx.http.written import Written
from lmx.machines.tasks import Rendering
from lmx.machines.types import Chat, Text, Tokens

Messages = Annotated[list[Message], Meta(min_length=1)]
SOURCES = ("content", "prompt", "messages")
OTHERS = KNOWN | {
    "add_generation_prompt",
    "chat_template",
    "chat_template_kwargs",
    "continue_final_message",
    "return_token_strs",
    "with_pieces",
}
"""Fields of the other servers that lmx does not have: refused by name."""


class TokenizeRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Exactly one of SOURCES; None = not given, as null is."""

    model: str
    content: str | None = None
    """A piece of text, in front of which nothing is put."""
    prompt: str | None = None
    """A whole text, which starts as the model's prompts do."""
    messages: Messages | None = None
    add_special: bool | None = None
    """Whether the text starts as the model's prompts do; `add_special_tokens` is the same."""
    add_special_tokens: bool | None = None
    parse_special: bool | None = None
    """Whether what looks like a control token is one, which it is unless this is false."""

    def rendering(self) -> Rendering:
        """An ApiError for what no single field can tell."""
        given = [name for name in SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            text = f"Exactly one of 'content', 'prompt' and 'messages' is needed, not {len(given)} of them."
            code = "invalid_parameter_combination" if given else "missing_required_parameter"
            raise ApiError(400, text, code, given[1] if given else "content")
        if self.messages is not None:
            self._check_template()
            return Rendering(_chat(self.messages), "tokens")
        start = self.add_special if self.add_special is not None else self.add_special_tokens
        bos = self.prompt is not None if start is None else start
        text = self.content if self.content is not None else self.prompt or ""
        return Rendering(Text(text), "tokens", bos=bos, control=self.parse_special is not False)

    def _check_template(self) -> None:
        """How messages are framed is the template's business."""
        for name in ("add_special", "add_special_tokens", "parse_special"):
            if getattr(self, name) is not None:
                raise unsupported(name, " with 'messages'")


class DetokenizeRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: str
    tokens: list[TokenId]


class TemplateRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: str
    messages: Messages


class Tokenized(Struct, frozen=True):
    tokens: tuple[int, ...]
    count: int


class Content(Struct, frozen=True):
    content: str


class Prompt(Struct, frozen=True):
    prompt: str


async def tokenize(request: web.Request) -> web.StreamResponse:
    """Tell the tokens of a text, or of a chat."""
    asked, rendering = await read(request, lambda body: _to_tokenize(body, request.app[GATEWAY]))
    blame = "messages" if asked.messages is not None else "content" if asked.content is not None else "prompt"
    async with _exchange(request, "tok", asked.model, rendering, blame) as exchange:
        ids = (await _answer(exchange)).tokens
        return await send_json(request, Tokenized(ids, len(ids)))


async def detokenize(request: web.Request) -> web.StreamResponse:
    """Tell the text of tokens."""
    asked, rendering = await read(request, lambda body: _to_detokenize(body, request.app[GATEWAY]))
    async with _exchange(request, "detok", asked.model, rendering, "tokens") as exchange:
        return await send_json(request, Content((await _answer(exchange)).text))


async def apply_template(request: web.Request) -> web.StreamResponse:
    """Tell the prompt that the model would read."""
    asked, rendering = await read(request, lambda body: _to_template(body, request.app[GATEWAY]))
    async with _exchange(request, "tmpl", asked.model, rendering, "messages") as exchange:
        return await send_json(request, Prompt((await _answer(exchange)).text))


def _to_tokenize(body: dict[str, Any], gateway: Gateway) -> tuple[TokenizeRequest, Rendering]:
    asked = convert(given_in(body, gateway), TokenizeRequest, CHOICES, OTHERS)
    return asked, asked.rendering()


def _to_detokenize(body: dict[str, Any], gateway: Gateway) -> tuple[DetokenizeRequest, Rendering]:
    asked = convert(given_in(body, gateway), DetokenizeRequest, {}, OTHERS)
    return asked, Rendering(Tokens(tuple(asked.tokens)), "text")


def _to_template(body: dict[str, Any], gateway: Gateway) -> tuple[TemplateRequest, Rendering]:
    asked = convert(given_in(body, gateway), TemplateRequest, CHOICES, OTHERS)
    return asked, Rendering(_chat(asked.messages), "text")


def _exchange(request: web.Request, prefix: str, model: str, rendering: Rendering, blame: str) -> Exchange:
    return Exchange(request, prefix, model, [rendering], blame)


async def _answer(exchange: Exchange) -> Rendered:
    (written,) = await exchange.collect()
    return rendered(written)


def rendered(written: Written) -> Rendered:
    """What came of a rendering."""
    if not isinstance(written.answer, Rendered):
        raise TypeError(f"a rendering is answered with {written.answer!r}")
    return written.answer


def _chat(messages: list[Message]) -> Chat:
    return Chat(told(messages, images=False))
