"""A message as Anthropic streams it: each block begins, grows and stops before the next one begins."""

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from lmx.actors.messages.client import Accepted, Delta, Finished, Prefilled
from lmx.formats.parts import CallArguments, CallBegun, CallEnded, Part, Said, Thought
from lmx.http.anthropic import envelope
from lmx.http.anthropic.edits import Applied, Edits
from lmx.http.anthropic.reply import (
    PREFIX,
    Content,
    Message,
    StopReason,
    Text,
    Thinking,
    ToolUse,
    Usage,
    id_of,
    prompt_of,
    signed,
    stop_of,
    usage_of,
)
from lmx.http.anthropic.request import MessagesRequest
from lmx.http.errors import ApiError
from lmx.http.exchange import Exchange
from lmx.http.stream import Chunks
from lmx.http.tools import call_id
from lmx.machines.types import TokenLogprob


class Start(Struct, frozen=True, tag_field="type", tag="message_start"):
    message: Message


class BlockStart(Struct, frozen=True, tag_field="type", tag="content_block_start"):
    index: int
    content_block: Content


class TextDelta(Struct, frozen=True, tag_field="type", tag="text_delta"):
    text: str


class ThinkingDelta(Struct, frozen=True, tag_field="type", tag="thinking_delta"):
    thinking: str


class SignatureDelta(Struct, frozen=True, tag_field="type", tag="signature_delta"):
    signature: str


class InputDelta(Struct, frozen=True, tag_field="type", tag="input_json_delta"):
    partial_json: str


class BlockDelta(Struct, frozen=True, tag_field="type", tag="content_block_delta"):
    index: int
    delta: TextDelta | ThinkingDelta | SignatureDelta | InputDelta


class BlockStop(Struct, frozen=True, tag_field="type", tag="content_block_stop"):
    index: int


class Ended(Struct, frozen=True):
    stop_reason: StopReason
    stop_sequence: str | None


class End(Struct, frozen=True, tag_field="type", tag="message_delta"):
    delta: Ended
    usage: Usage
    context_management: Applied | UnsetType = UNSET


class Stop(Struct, frozen=True, tag_field="type", tag="message_stop"):
    pass


class Ping(Struct, frozen=True, tag_field="type", tag="ping"):
    pass


Event = Start | BlockStart | BlockDelta | BlockStop | End | Stop | Ping


def event(value: Event) -> bytes:
    """Named twice, as clients expect it."""
    return b"event: %b\ndata: %b\n\n" % (str(value.__struct_config__.tag).encode(), msgspec.json.encode(value))


PING = event(Ping())
"""In place of comments: some clients count the time since the last event."""


class Blocks:
    """The blocks of one message, as events."""

    def __init__(self, *, omits_thoughts: bool) -> None:
        self._omits = omits_thoughts
        self._index = -1
        self._open: Literal["", "text", "thinking", "tool"] = ""
        self._blank = ""
        """White space that is told with the text that follows it, if any does."""
        self._thought: list[str] = []
        self._begun = self._ended = 0
        """Calls that were told."""

    @property
    def called(self) -> bool:
        """A tool is to be used, and no call that was told is broken."""
        return self._begun == self._ended > 0

    def add(self, part: Part) -> bytes:
        match part:
            case Said(text):
                return self.say(text)
            case Thought(text):
                return self._think(text)
            case CallBegun(_, name, own):
                return self.close() + self._begin("tool", ToolUse(call_id(own, PREFIX), name, {}))
            case CallArguments(_, text):
                return self._grow(InputDelta(text))
            case CallEnded():
                self._ended += 1
                return self.close()

    def say(self, text: str) -> bytes:
        if self._open != "text":
            text = self._blank + text
            if not text.strip():
                self._blank = text
                return b""
        written = self._begin("text", Text(""))
        return written + self._grow(TextDelta(text))

    def close(self) -> bytes:
        """The open block, if any, is complete."""
        kind, self._open, self._blank = self._open, "", ""
        if not kind:
            return b""
        written = b""
        if kind == "thinking":
            written = self._grow(SignatureDelta(signed("".join(self._thought))))
            self._thought.clear()
        return written + event(BlockStop(self._index))

    def _think(self, text: str) -> bytes:
        written = self._begin("thinking", Thinking("", ""))
        self._thought.append(text)
        return written if self._omits else written + self._grow(ThinkingDelta(text))

    def _begin(self, kind: Literal["text", "thinking", "tool"], block: Content) -> bytes:
        """Unless it is open already."""
        if self._open == kind:
            return b""
        written = self.close()
        self._open = kind
        self._begun += kind == "tool"
        self._index += 1
        return written + event(BlockStart(self._index, block))

    def _grow(self, delta: TextDelta | ThinkingDelta | SignatureDelta | InputDelta) -> bytes:
        return event(BlockDelta(self._index, delta))


class MessageEvents(Chunks):
    def __init__(self, exchange: Exchange, request_id: str, asked: MessagesRequest, edits: Edits) -> None:
        self._exchange = exchange
        self._request_id = request_id
        self._asked = asked
        self._edits = edits
        self._blocks = Blocks(omits_thoughts=asked.omits_thoughts)

    def opening(self, index: int, accepted: Accepted) -> bytes:
        """What of the prompt was known is told at the end."""
        begun = Message(
            id=id_of(self._exchange.id),
            model=self._asked.model,
            content=(),
            usage=Usage(input_tokens=accepted.prompt_tokens, output_tokens=0),
            diagnostics=self._asked.diagnosis,
        )
        return event(Start(begun)) + PING

    def prefilled(self, index: int, prefilled: Prefilled) -> bytes:
        return b""

    def text(self, index: int, delta: Delta) -> bytes:
        return self._blocks.say(delta.text)

    def parts(self, index: int, parts: Sequence[Part], logprobs: tuple[TokenLogprob, ...]) -> bytes:
        return b"".join([self._blocks.add(part) for part in parts])

    def finish(self, index: int, finished: Finished, reason: str) -> bytes:
        usage = usage_of(self._exchange.usage())
        full = usage.output_tokens >= self._asked.max_tokens
        why = stop_of(finished.reason, finished.stop, called=self._blocks.called, full=full)
        ended = Ended(why, finished.stop if why == "stop_sequence" else None)
        return self._blocks.close() + event(End(ended, usage, self._edits.told(prompt_of(usage))))

    def end(self) -> bytes:
        return event(Stop())

    def ping(self) -> bytes:
        return PING

    def failed(self, error: ApiError) -> bytes:
        return b"event: error\ndata: %b\n\n" % envelope.body(error, self._request_id)
