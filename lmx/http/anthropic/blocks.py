"""Blocks of Anthropic's messages, as clients send them (types of the `anthropic` client, Messages API 2023-06-01)."""

from collections.abc import Iterable, Mapping
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


class Citations(Struct, frozen=True, forbid_unknown_fields=True):
    """No model of lmx cites."""

    enabled: Literal[False] | None = None


class PlainSource(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="text"):
    data: str
    media_type: Literal["text/plain"]


class BlocksSource(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="content"):
    content: str | list[TextBlock]

    @property
    def data(self) -> str:
        return self.content if isinstance(self.content, str) else joined(self.content)


class DocumentBlock(Block, frozen=True, kw_only=True, tag="document"):
    """Of text; nobody here reads PDF."""

    source: PlainSource | BlocksSource
    title: str | None = None
    context: str | None = None
    citations: Citations | None = None

    @property
    def text(self) -> str:
        return _marked("document", {"title": self.title, "context": self.context}, self.source.data)


class SearchResultBlock(Block, frozen=True, tag="search_result"):
    source: str
    title: str
    content: list[TextBlock]
    citations: Citations | None = None

    @property
    def text(self) -> str:
        return _marked("search_result", {"source": self.source, "title": self.title}, joined(self.content))


class ReferenceBlock(Block, frozen=True, tag="tool_reference"):
    """A tool that was found, and is offered from now on."""

    tool_name: Label

    @property
    def text(self) -> str:
        return f"{self.tool_name} is now one of your tools."


class ToolUseBlock(Block, frozen=True, tag="tool_use"):
    id: Label
    name: Label
    input: dict[str, Any]
    caller: Direct | None = None
    toolset_name: Literal[None] = None


Result = TextBlock | ImageBlock | DocumentBlock | SearchResultBlock | ReferenceBlock


class ToolResultBlock(Block, frozen=True, tag="tool_result"):
    tool_use_id: Label
    content: str | list[Result] | None = None
    is_error: bool | None = None
    toolset_name: Literal[None] = None


class ThinkingBlock(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="thinking"):
    """The signature is not looked at, nor missed: a conversation may have begun with another model."""

    thinking: str
    signature: str = ""


class RedactedBlock(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="redacted_thinking"):
    """Only Anthropic can read it, so it tells a model here nothing."""

    data: str


Content = (
    TextBlock
    | ImageBlock
    | DocumentBlock
    | SearchResultBlock
    | ToolUseBlock
    | ToolResultBlock
    | ThinkingBlock
    | RedactedBlock
)


class Message(Struct, frozen=True, forbid_unknown_fields=True):
    role: Literal["user", "assistant", "system"]
    content: str | list[Content]

    @property
    def thinks(self) -> bool:
        return any(isinstance(block, ThinkingBlock | RedactedBlock) for block in self.blocks())

    def blocks(self) -> list[Content]:
        """A string is a text."""
        if isinstance(self.content, list):
            return self.content
        return [TextBlock(text=self.content)] if self.content else []


def joined(blocks: Iterable[TextBlock]) -> str:
    """Pieces that were written apart stay apart."""
    return "\n".join(block.text for block in blocks)


def _marked(tag: str, about: Mapping[str, str | None], text: str) -> str:
    """As Anthropic advises to write documents into prompts."""
    told = [f"<{name}>{value}</{name}>" for name, value in about.items() if value]
    return "\n".join([f"<{tag}>", *told, text, f"</{tag}>"])
