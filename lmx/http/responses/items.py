"""Items: what a conversation of the Responses API consists of. As clients send them, and as they get them back."""

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Any, Literal
from uuid import uuid4

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from lmx.http.errors import ApiError, shown
from lmx.http.logprobs import ChatToken
from lmx.http.messages import Breakpoint

Status = Literal["in_progress", "completed", "incomplete"]
ItemRole = Literal["user", "assistant", "system", "developer"]
CallId = Annotated[str, Meta(min_length=1, max_length=64)]
SEAL = "lmx-"
"""Begins what carries thoughts through clients that store nothing. It hides nothing: they are told openly too."""


class InputText(Struct, frozen=True, tag_field="type", tag="input_text", forbid_unknown_fields=True):
    text: str
    prompt_cache_breakpoint: Breakpoint | UnsetType = UNSET


class InputImage(Struct, frozen=True, tag_field="type", tag="input_image", forbid_unknown_fields=True):
    image_url: str
    detail: Literal["low", "high", "auto", "original"] = "auto"
    """Without effect: the model's projector decides."""
    prompt_cache_breakpoint: Breakpoint | UnsetType = UNSET


class OutputText(Struct, frozen=True, tag_field="type", tag="output_text", forbid_unknown_fields=True):
    text: str
    annotations: Sequence[Any] = ()
    logprobs: Sequence[ChatToken] = ()


class RefusalText(Struct, frozen=True, tag_field="type", tag="refusal", forbid_unknown_fields=True):
    refusal: str


class SummaryText(Struct, frozen=True, tag_field="type", tag="summary_text", forbid_unknown_fields=True):
    text: str


class ReasoningText(Struct, frozen=True, tag_field="type", tag="reasoning_text", forbid_unknown_fields=True):
    text: str


Part = InputText | InputImage | OutputText | RefusalText


class Message(Struct, frozen=True, tag_field="type", tag="message", forbid_unknown_fields=True):
    role: ItemRole
    content: str | Sequence[Part]
    id: str | UnsetType = UNSET
    status: Status | UnsetType = UNSET
    phase: Literal["commentary", "final_answer"] | UnsetType = UNSET
    """A label without effect."""

    @property
    def text(self) -> str:
        """Without its images."""
        if isinstance(self.content, str):
            return self.content
        return "".join(text_of(part) for part in self.content)

    @property
    def sees(self) -> bool:
        """It has images."""
        return not isinstance(self.content, str) and any(isinstance(part, InputImage) for part in self.content)


class Reasoning(Struct, frozen=True, tag_field="type", tag="reasoning", forbid_unknown_fields=True):
    id: str | UnsetType = UNSET
    summary: Sequence[SummaryText] = ()
    """lmx makes none: it tells the thoughts themselves."""
    content: Sequence[ReasoningText] = ()
    encrypted_content: str | UnsetType = UNSET
    status: Status | UnsetType = UNSET

    @property
    def text(self) -> str:
        """The thought; its summary where that is all there is."""
        if self.content:
            return "".join(part.text for part in self.content)
        if self.encrypted_content is not UNSET:
            return unsealed(self.encrypted_content)
        return "\n\n".join(part.text for part in self.summary)


class FunctionCall(Struct, frozen=True, tag_field="type", tag="function_call", forbid_unknown_fields=True):
    call_id: CallId
    name: Annotated[str, Meta(min_length=1, max_length=128)]
    arguments: str
    id: str | UnsetType = UNSET
    status: Status | UnsetType = UNSET


class FunctionOutput(Struct, frozen=True, tag_field="type", tag="function_call_output", forbid_unknown_fields=True):
    call_id: CallId
    output: str | Sequence[InputText]
    id: str | UnsetType = UNSET
    status: Status | UnsetType = UNSET
    name: Annotated[str, Meta(min_length=1, max_length=128)] | UnsetType = UNSET
    """Of the function; without effect, as its call has it."""

    @property
    def text(self) -> str:
        return self.output if isinstance(self.output, str) else "".join(part.text for part in self.output)


class Reference(Struct, frozen=True, tag_field="type", tag="item_reference", forbid_unknown_fields=True):
    """An item that the store knows."""

    id: str


Item = Message | Reasoning | FunctionCall | FunctionOutput
Given = Item | Reference
Output = Message | Reasoning | FunctionCall
PREFIXES = {Message: "msg", Reasoning: "rs", FunctionCall: "fc", FunctionOutput: "fc_output"}


def text_of(part: Part) -> str:
    if isinstance(part, InputImage):
        return ""
    return part.refusal if isinstance(part, RefusalText) else part.text


def new_id(kind: type[Struct]) -> str:
    return f"{PREFIXES[kind]}_{uuid4().hex}"


def settled(item: Item) -> Item:
    """As it is stored and listed: with an id, a status, and content in parts of the kind that belongs to its role."""
    known: dict[str, Any] = {} if item.id else {"id": new_id(type(item))}
    if item.status is UNSET:
        known["status"] = "completed"
    if isinstance(item, Message):
        known["content"] = _parts(item)
    return replace(item, **known)


def _parts(message: Message) -> tuple[Part, ...]:
    if isinstance(message.content, str):
        return (OutputText(message.content) if message.role == "assistant" else InputText(message.content),)
    return tuple(_of_role(part, message.role) for part in message.content)


def _of_role(part: Part, role: ItemRole) -> Part:
    match part:
        case InputText(text) if role == "assistant":
            return OutputText(text)
        case OutputText(text) if role != "assistant":
            return InputText(text)
    return part


def sealed(thought: str) -> str:
    return SEAL + base64.urlsafe_b64encode(thought.encode()).decode()


def unsealed(content: str) -> str:
    """Raises ApiError for what is not of lmx."""
    try:
        if not content.startswith(SEAL):
            raise ValueError("it has no seal")
        return base64.b64decode(content.removeprefix(SEAL), altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error) as error:
        text = f"The encrypted content {shown(content)[:40]} could not be verified."
        raise ApiError(400, text, "invalid_encrypted_content", "input") from error
