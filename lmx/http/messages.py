"""Messages of a chat, as clients send them, and as chat templates read them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from lmx.http.errors import ApiError, shown
from lmx.http.fields import unsupported
from lmx.http.tools import MOST

Role = Literal["system", "developer", "user", "assistant", "tool"]
Label = Annotated[str, Meta(max_length=512)]
TemplateMessage = dict[str, Any]
"""role, content, and where they are given name, tool_call_id, reasoning_content, tool_calls.

The content is one text or, where there are images, parts as lmx/http/images.py takes them.
"""


class Breakpoint(Struct, frozen=True, forbid_unknown_fields=True):
    """Without effect: every beginning of a prompt is kept as long as there is room."""

    mode: Literal["explicit"]


class TextPart(Struct, frozen=True, tag_field="type", tag="text", forbid_unknown_fields=True):
    text: str
    prompt_cache_breakpoint: Breakpoint | None = None


class RefusalPart(Struct, frozen=True, tag_field="type", tag="refusal", forbid_unknown_fields=True):
    refusal: str

    @property
    def text(self) -> str:
        return self.refusal


class ImageUrl(Struct, frozen=True, forbid_unknown_fields=True):
    url: str
    detail: Literal["auto", "low", "high"] | None = None
    """Without effect: the model's projector decides."""


class ImagePart(Struct, frozen=True, tag_field="type", tag="image_url", forbid_unknown_fields=True):
    image_url: ImageUrl
    prompt_cache_breakpoint: Breakpoint | None = None


class AudioPart(Struct, frozen=True, tag_field="type", tag="input_audio"):
    """This and the next one are refused: no model of lmx hears or reads files."""


class FilePart(Struct, frozen=True, tag_field="type", tag="file"):
    pass


PARTS = ("content", "tool_calls")
"""Fields of a message that consist of several."""

KINDS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("system", "developer", "tool"), ("text",)),
    "user": ("text", "image_url"),
    "assistant": ("text", "refusal"),
}
"""Types of parts, by role."""
FOREIGN = ("input_audio", "file")
"""Types that are refused with their reason."""
MEDIA = {ImagePart: "image_url", AudioPart: "input_audio", FilePart: "file"}

UserPart = TextPart | ImagePart | AudioPart | FilePart
Texts = str | Annotated[list[TextPart], Meta(min_length=1)]
UserContent = str | Annotated[list[UserPart], Meta(min_length=1)]
AssistantContent = str | Annotated[list[TextPart | RefusalPart], Meta(min_length=1)]


class Called(Struct, frozen=True, forbid_unknown_fields=True):
    name: Label
    arguments: str
    parsed_arguments: Any = None
    """Of the openai client's own helper, which sends it back; without effect."""


class FunctionCall(Struct, frozen=True, tag_field="type", tag="function", forbid_unknown_fields=True):
    id: Label
    function: Called
    index: int | None = None
    """Left in by clients that put a stream together; without effect."""

    def plain(self) -> dict[str, Any]:
        function = {"name": self.function.name, "arguments": self.function.arguments}
        return {"id": self.id, "type": "function", "function": function}


class CustomCall(Struct, frozen=True, tag_field="type", tag="custom"):
    """Refused: no model of lmx is offered such tools."""


class _Message(Struct, frozen=True, tag_field="role", forbid_unknown_fields=True):
    content: Texts
    name: Label | None = None

    def plain(self) -> TemplateMessage:
        role = self.__struct_config__.tag
        named = {} if self.name is None else {"name": self.name}
        return {"role": role, "content": _joined(self.content)} | named


class SystemMessage(_Message, frozen=True, tag="system"):
    pass


class DeveloperMessage(_Message, frozen=True, tag="developer"):
    def plain(self) -> TemplateMessage:
        """OpenAI's newer name of `system`, undone."""
        return super().plain() | {"role": "system"}


class UserMessage(Struct, frozen=True, tag_field="role", tag="user", forbid_unknown_fields=True):
    content: UserContent
    name: Label | None = None

    def plain(self) -> TemplateMessage:
        named = {} if self.name is None else {"name": self.name}
        return {"role": "user", "content": _joined(self.content)} | named

    def seen(self, place: str) -> TemplateMessage:
        """With its images, which are named by their place in the request."""
        if isinstance(self.content, str) or not any(isinstance(part, ImagePart) for part in self.content):
            return self.plain()
        parts = [_part(part, f"{place}.content[{at}]") for at, part in enumerate(self.content)]
        return self.plain() | {"content": parts}


class ToolMessage(_Message, frozen=True, kw_only=True, tag="tool"):
    tool_call_id: Label

    def plain(self) -> TemplateMessage:
        return super().plain() | {"tool_call_id": self.tool_call_id}


class AssistantMessage(
    Struct, frozen=True, kw_only=True, tag_field="role", tag="assistant", forbid_unknown_fields=True
):
    content: AssistantContent | None = None
    name: Label | None = None
    refusal: str | None = None
    """What it said in place of `content`."""
    tool_calls: Annotated[list[FunctionCall | CustomCall], Meta(min_length=1, max_length=MOST)] | None = None
    reasoning_content: str | None = None
    """What it thought; `reasoning` is the same. The template decides whether the model is told."""
    reasoning: str | None = None
    annotations: list[Any] | None = None
    """Of OpenAI's replies, sent back; without effect, as is `parsed`, which the openai client adds."""
    parsed: Any = None

    def plain(self) -> TemplateMessage:
        said = self.refusal if self.content is None else self.content
        thought = self.reasoning if self.reasoning_content is None else self.reasoning_content
        given = {"name": self.name, "reasoning_content": thought}
        told: TemplateMessage = {"role": "assistant", "content": _joined(said or "")}
        told |= {field: value for field, value in given.items() if value is not None}
        if self.tool_calls:
            told["tool_calls"] = [call.plain() for call in self.calls()]
        return told

    def calls(self) -> Iterator[FunctionCall]:
        return (call for call in self.tool_calls or () if isinstance(call, FunctionCall))


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage


def told(messages: Sequence[Message], *, images: bool) -> tuple[TemplateMessage, ...]:
    """As templates read them. ApiError 400 for what no text says, images among them unless they may come."""
    for index, message in enumerate(messages):
        if isinstance(message, UserMessage):
            _check_parts(message, index, images)
    return tuple(
        message.seen(f"messages[{index}]") if isinstance(message, UserMessage) else message.plain()
        for index, message in enumerate(messages)
    )


def first_image(messages: Sequence[TemplateMessage]) -> str | None:
    """Where the first one is in the request; None when there is none."""
    for message in messages:
        for part in message["content"] if isinstance(message["content"], list) else ():
            if part["type"] == "image":
                return str(part["param"])
    return None


def check(messages: Sequence[Message]) -> None:
    """What no field can tell: ApiError 400."""
    for index, message in enumerate(messages):
        if isinstance(message, AssistantMessage):
            _check_said(message, index)
    check_answers(messages)


def check_answers(messages: Sequence[Message]) -> None:
    """Each call has an answer right behind its message, and each answer a call."""
    called: set[str] = set()
    waiting: dict[str, None] = {}
    for index, message in enumerate(messages):
        if isinstance(message, ToolMessage):
            _check_answer(message, index, called)
            waiting.pop(message.tool_call_id, None)
            continue
        if waiting:
            raise _unanswered(waiting, f"messages.[{index}].role")
        called = {call.id for call in message.calls()} if isinstance(message, AssistantMessage) else set()
        waiting = dict.fromkeys(sorted(called))
    if waiting:
        raise _unanswered(waiting, f"messages.[{len(messages) - 1}].role")


def check_kinds(messages: Sequence[object]) -> None:
    """ApiError 400 for a part of a type that nobody knows, or that messages of its role do not have."""
    for index, message in enumerate(messages):
        role, content = (message.get("role"), message.get("content")) if isinstance(message, dict) else ("", None)
        kinds = KINDS.get(role, ()) if isinstance(role, str) else ()
        for at, part in enumerate(content if kinds and isinstance(content, list) else ()):
            kind = part.get("type") if isinstance(part, dict) else None
            if isinstance(kind, str) and kind not in kinds and not (role == "user" and kind in FOREIGN):
                text = f"Invalid value: {shown(repr(kind))}. Supported values are: {', '.join(map(repr, kinds))}."
                raise ApiError(400, text, "invalid_value", f"messages[{index}].content[{at}].type")


def without_nulls(message: object) -> object:
    """The openai client sends the fields of its own replies back as null."""
    if not isinstance(message, dict):
        return message
    given = {name: value for name, value in message.items() if value is not None or _speaks(name, message)}
    return given | {name: [_given(part) for part in given[name]] for name in PARTS if isinstance(given.get(name), list)}


def _given(part: object) -> object:
    """Also what several kinds of parts are made of in one class comes with null for the fields of the others."""
    return {name: value for name, value in part.items() if value is not None} if isinstance(part, dict) else part


def _speaks(name: str, message: dict[str, Any]) -> bool:
    """Only an assistant may have nothing to say."""
    return name == "content" and message.get("role") != "assistant"


def _joined(content: str | Sequence[UserPart | RefusalPart]) -> str:
    """The texts."""
    if isinstance(content, str):
        return content
    return "".join(part.text for part in content if isinstance(part, TextPart | RefusalPart))


def _part(part: UserPart, param: str) -> dict[str, Any]:
    if isinstance(part, ImagePart):
        return {"type": "image", "url": part.image_url.url, "param": param}
    return {"type": "text", "text": part.text if isinstance(part, TextPart) else ""}


def _check_parts(message: UserMessage, index: int, images: bool) -> None:
    if isinstance(message.content, str):
        return
    for at, part in enumerate(message.content):
        if not isinstance(part, TextPart) and not (images and isinstance(part, ImagePart)):
            param = f"messages[{index}].content[{at}]"
            text = f"Invalid content type. {MEDIA[type(part)]} is only supported by certain models."
            raise ApiError(400, f"{text} Leave '{param}' out of the conversation, or send its text.", None, param)


def _check_said(message: AssistantMessage, index: int) -> None:
    for at, call in enumerate(message.tool_calls or ()):
        if not isinstance(call, FunctionCall):
            raise unsupported(f"messages[{index}].tool_calls[{at}].custom")
    thought = message.reasoning_content or message.reasoning
    if message.content is None and message.refusal is None and not message.tool_calls and not thought:
        param = f"messages[{index}].content"
        text = f"Invalid value for '{param}': expected a string, got null."
        raise ApiError(400, text, None, param)


def _check_answer(message: ToolMessage, index: int, called: set[str]) -> None:
    if not called:
        text = "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
        raise ApiError(400, f"Invalid parameter: {text}", None, f"messages.[{index}].role")
    if message.tool_call_id not in called:
        text = f"'tool_call_id' of '{shown(message.tool_call_id)}' not found in 'tool_calls' of previous message."
        raise ApiError(400, f"Invalid parameter: {text}", None, f"messages.[{index}].tool_call_id")


def _unanswered(ids: Iterable[str], param: str) -> ApiError:
    text = (
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'."
        f" The following tool_call_ids did not have response messages: {shown(', '.join(ids))}"
    )
    return ApiError(400, text, None, param)
