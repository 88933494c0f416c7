"""The events of a streamed response, numbered from 0, as OpenAI has them."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from lmx.http.logprobs import ChatToken
from lmx.http.responses.items import Output, OutputText, ReasoningText
from lmx.http.responses.reply import Response


class Event(Struct, frozen=True, kw_only=True, tag_field="type"):
    sequence_number: int


class Created(Event, frozen=True, tag="response.created"):
    response: Response


class InProgress(Event, frozen=True, tag="response.in_progress"):
    response: Response


class Completed(Event, frozen=True, tag="response.completed"):
    response: Response


class Incomplete(Event, frozen=True, tag="response.incomplete"):
    response: Response


class Failed(Event, frozen=True, tag="response.failed"):
    response: Response


class Error(Event, frozen=True, tag="error"):
    code: str | None
    message: str
    param: str | None


class OfItem(Event, frozen=True, kw_only=True):
    output_index: int


class ItemAdded(OfItem, frozen=True, tag="response.output_item.added"):
    item: Output


class ItemDone(OfItem, frozen=True, tag="response.output_item.done"):
    item: Output


class OfCall(OfItem, frozen=True, kw_only=True):
    item_id: str


class ArgumentsDelta(OfCall, frozen=True, tag="response.function_call_arguments.delta"):
    delta: str


class ArgumentsDone(OfCall, frozen=True, tag="response.function_call_arguments.done"):
    name: str
    arguments: str


class OfPart(OfCall, frozen=True, kw_only=True):
    content_index: int = 0


class PartAdded(OfPart, frozen=True, tag="response.content_part.added"):
    part: OutputText | ReasoningText


class PartDone(OfPart, frozen=True, tag="response.content_part.done"):
    part: OutputText | ReasoningText


class TextDelta(OfPart, frozen=True, tag="response.output_text.delta"):
    delta: str
    logprobs: Sequence[ChatToken]


class TextDone(OfPart, frozen=True, tag="response.output_text.done"):
    text: str
    logprobs: Sequence[ChatToken]


class ThoughtDelta(OfPart, frozen=True, tag="response.reasoning_text.delta"):
    delta: str


class ThoughtDone(OfPart, frozen=True, tag="response.reasoning_text.done"):
    text: str


AnyEvent = (
    Created
    | InProgress
    | Completed
    | Incomplete
    | Failed
    | Error
    | ItemAdded
    | ItemDone
    | ArgumentsDelta
    | ArgumentsDone
    | PartAdded
    | PartDone
    | TextDelta
    | TextDone
    | ThoughtDelta
    | ThoughtDone
)


def encoded(event: Event) -> bytes:
    """OpenAI names each event twice: on a line of its own, and in its data. There is no `[DONE]`."""
    name = event.__struct_config__.tag
    return b"event: %b\ndata: %b\n\n" % (str(name).encode(), msgspec.json.encode(event))
