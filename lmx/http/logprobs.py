"""Log-probabilities in OpenAI's two shapes: that of chats, and the older one of completions."""

import codecs
from collections.abc import Iterable

from msgspec import Struct

from lmx.machines.types import Likely, TokenLogprob

LOWEST = -9999.0
"""OpenAI's number for what cannot be; JSON has no infinity."""


class ChatLikely(Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int]


class ChatToken(Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[ChatLikely]


class ChatLogprobs(Struct, frozen=True):
    content: list[ChatToken]
    refusal: None = None


class TextLogprobs(Struct, frozen=True):
    """Four lists of one length. The first token of a prompt has neither a probability nor rivals."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class Offsets:
    """Where each token begins, in characters of its choice's text; of a split character, all parts begin it."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._at = 0

    def next(self, piece: bytes) -> int:
        at = self._at
        self._at += len(self._decoder.decode(piece))
        return at

    def end(self) -> None:
        """The prompt is over: what it left unfinished is a character, whatever follows."""
        self._at += len(self._decoder.decode(b"", final=True))
        self._decoder.reset()


def of_chat(tokens: Iterable[TokenLogprob]) -> ChatLogprobs:
    return ChatLogprobs([_chat_token(token) for token in tokens])


def of_text(tokens: Iterable[TokenLogprob], offsets: Offsets) -> TextLogprobs:
    """`offsets` goes on from what it was given for this choice before."""
    rows = list(tokens)
    return TextLogprobs(
        tokens=[_text(row.text) for row in rows],
        token_logprobs=[None if row.logprob is None else _number(row.logprob) for row in rows],
        top_logprobs=[_rivals(row) for row in rows],
        text_offset=[offsets.next(row.text) for row in rows],
    )


def _chat_token(token: TokenLogprob) -> ChatToken:
    top = [_chat_likely(likely) for likely in token.top]
    logprob = LOWEST if token.logprob is None else _number(token.logprob)
    return ChatToken(_text(token.text), logprob, list(token.text), top)


def _chat_likely(likely: Likely) -> ChatLikely:
    return ChatLikely(_text(likely.text), _number(likely.logprob), list(likely.text))


def _rivals(token: TokenLogprob) -> dict[str, float] | None:
    """The most likely texts and the token's own; of tokens with the same text the likeliest counts."""
    if token.logprob is None:
        return None
    rivals: dict[str, float] = {}
    for likely in token.top:
        rivals.setdefault(_text(likely.text), _number(likely.logprob))
    rivals.setdefault(_text(token.text), _number(token.logprob))
    return rivals


def _text(piece: bytes) -> str:
    return piece.decode("utf-8", "replace")


def _number(logprob: float) -> float:
    return max(logprob, LOWEST)
