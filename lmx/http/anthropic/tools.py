"""Tools as clients of Anthropic declare them, and how they may be called."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from lmx.http import tools
from lmx.http.anthropic.blocks import CacheControl
from lmx.http.anthropic.faults import at
from lmx.http.errors import shown
from lmx.http.tools import Choice, Function, Rules, ToolTemplate

RULES = Rules(name=128, description=None, parameters="input_schema", closed=False)
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
    defer_loading: Literal[False] | None = None
    allowed_callers: Annotated[list[Literal["direct"]], Meta(max_length=1)] | None = None
    input_examples: Annotated[list[Any], Meta(max_length=0)] | None = None


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


def templates(declared: Sequence[Tool]) -> tuple[ToolTemplate, ...]:
    """As chat templates read them. Raises ApiError."""
    functions = [Function(tool.name, tool.description, tool.input_schema, tool.strict) for tool in declared]
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
