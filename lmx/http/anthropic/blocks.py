"""Blocks of Anthropic's messages, as clients send them (types of the `anthropic` client, Messages API 2023-06-01)."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Words = Annotated[str, Meta(min_length=1)]
Label = Annotated[str, Meta(max_length=512)]


class CacheControl(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="ephemeral"):
    """Without effect: the beginning of every prompt is kept, for as long as there is room."""

    ttl: Literal["5m", "1h"] | None = None
    scope: str | None = None


class Direct(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="direct"):
    """Who called a tool: the model itself."""


class Block(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    cache_control: CacheControl | None = None


class TextBlock(Block, frozen=True, tag="text"):
    text: Words
    citations: Annotated[list[Any], Meta(max_length=0)] | None = None


class Base64Source(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="base64"):
    data: Words
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]

    @property
    def link(self) -> str:
        return f"data:{self.media_type};base64,{self.data}"


class UrlSource(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="url"):
    url: Words

    @property
    def link(self) -> str:
        return self.url


class ImageBlock(Block, frozen=True, tag="image"):
    source: Base64Source | UrlSource


class ToolUseBlock(Block, frozen=True, tag="tool_use"):
    id: Label
    name: Label
    input: dict[str, Any]
    caller: Direct | None = None
    toolset_name: Literal[None] = None


class ToolResultBlock(Block, frozen=True, tag="tool_result"):
    tool_use_id: Label
    content: str | list[TextBlock | ImageBlock] | None = None
    is_error: bool | None = None
    toolset_name: Literal[None] = None


class ThinkingBlock(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="thinking"):
    """The signature is not looked at: a conversation may have begun with another model."""

    thinking: str
    signature: str


class RedactedBlock(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="redacted_thinking"):
    """Only Anthropic can read it, so it tells a model here nothing."""

    data: str


Content = TextBlock | ImageBlock | ToolUseBlock | ToolResultBlock | ThinkingBlock | RedactedBlock


class Message(Struct, frozen=True, forbid_unknown_fields=True):
    role: Literal["user", "assistant", "system"]
    content: str | list[Content]

    def blocks(self) -> list[Content]:
        """A string is a text."""
        if isinstance(self.content, list):
            return self.content
        return [TextBlock(text=self.content)] if self.content else []
