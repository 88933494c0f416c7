"""Tools as clients of Anthropic declare them, and how they may be called."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from lmx.http import tools
from lmx.http.anthropic.blocks import CacheControl, Message, ReferenceBlock, ToolResultBlock
from lmx.http.anthropic.faults import at
from lmx.http.errors import shown
from lmx.http.tools import Choice, Function, Rules, ToolTemplate

RULES = Rules(name=128, description=None, parameters="input_schema", closed=False, most=10_000)
EXAMPLES = "Examples of its input:"
UNKNOWN = "Input tag {tag} found using 'type' does not match any of the expected tags: 'custom'"


class Tool(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One that the client runs."""

    name: str
    input_schema: dict[str, Any]
    description: str | None = None
    type: Literal["custom"] | None = None
    cache_control: CacheControl | None = None
    strict: bool | None = None
    eager_input_streaming: bool | None = None
    """Its input is streamed as it is written; without it, when it is whole."""
    defer_loading: bool | None = None
    """The model is told of it once a result refers to it."""
    allowed_callers: Annotated[list[Literal["direct"]], Meta(max_length=1)] | None = None
    input_examples: list[dict[str, Any]] | None = None

    @property
    def told(self) -> str | None:
        """The description, with the examples that templates have no place for."""
        examples = [json.dumps(example, ensure_ascii=False) for example in self.input_examples or ()]
        return "\n".join([self.description or "", EXAMPLES, *examples]).lstrip() if examples else self.description


class Auto(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="auto"):
    disable_parallel_tool_use: bool | None = None


class AnyTool(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="any"):
    disable_parallel_tool_use: bool | None = None


class OneTool(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="tool"):
    name: str
    disable_parallel_tool_use: bool | None = None


class NoTool(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="none"):
    pass


ToolChoice = Auto | AnyTool | OneTool | NoTool


def check_kinds(declared: object) -> None:
    """Anthropic's own tools, which its servers run or its models were trained on, are refused by name."""
    for number, tool in enumerate(declared if isinstance(declared, list) else ()):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if isinstance(kind, str) and kind != "custom":
            raise at(f"tools.{number}", UNKNOWN.format(tag=repr(shown(kind))))


def found(messages: Sequence[Message]) -> dict[str, str]:
    """Tools that results refer to, in their order, and where the first one does."""
    places: dict[str, str] = {}
    for number, message in enumerate(messages):
        for at_block, block in enumerate(message.blocks()):
            parts = block.content if isinstance(block, ToolResultBlock) else None
            for at_part, part in enumerate(parts if isinstance(parts, list) else ()):
                if isinstance(part, ReferenceBlock):
                    place = f"messages.{number}.content.{at_block}.tool_result.content.{at_part}"
                    places.setdefault(part.tool_name, place)
    return places


def offered(declared: Sequence[Tool], found: Mapping[str, str]) -> tuple[Tool, ...]:
    """Those that the model is told of: the deferred ones come last, as they were found. Raises ApiError."""
    by_name = {tool.name: tool for tool in declared}
    for name, place in found.items():
        if name not in by_name:
            raise at(place, f"Tool reference '{shown(name)}' not found in available tools")
    if declared and all(tool.defer_loading for tool in declared):
        raise at("tools", "At least one tool must not have `defer_loading`")
    later = [by_name[name] for name in found if by_name[name].defer_loading]
    return (*(tool for tool in declared if not tool.defer_loading), *later)


def templates(declared: Sequence[Tool]) -> tuple[ToolTemplate, ...]:
    """As chat templates read them. Raises ApiError."""
    functions = [Function(tool.name, tool.told, tool.input_schema, tool.strict) for tool in declared]
    return tools.templates(functions, "tools[{}]", RULES)


def choice_of(given: ToolChoice | None) -> Choice:
    match given:
        case AnyTool(disabled):
            return Choice("required", parallel=not disabled)
        case OneTool(name, disabled):
            return Choice("required", (name,), parallel=not disabled)
        case NoTool():
            return Choice("none")
        case Auto(disabled):
            return Choice(parallel=not disabled)
    return Choice()
