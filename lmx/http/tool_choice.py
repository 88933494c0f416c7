"""`tools` and `tool_choice` as /v1/chat/completions has them."""

from typing import Annotated, Literal, assert_never

from msgspec import Meta, Struct

from lmx.http.fields import unsupported
from lmx.http.tools import MOST, Choice, Function, Mode, ToolTemplate, needs_tools, templates


class FunctionTool(Struct, frozen=True, tag_field="type", tag="function", forbid_unknown_fields=True):
    function: Function


class CustomTool(Struct, frozen=True, tag_field="type", tag="custom"):
    """Refused: its input is free text or a grammar."""


class Named(Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class NamedFunction(Struct, frozen=True, tag_field="type", tag="function", forbid_unknown_fields=True):
    function: Named


class NamedCustom(Struct, frozen=True, tag_field="type", tag="custom"):
    """Refused, as such a tool itself is."""


class AllowedTools(Struct, frozen=True, forbid_unknown_fields=True):
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedFunction | NamedCustom], Meta(min_length=1, max_length=MOST)]


class Allowed(Struct, frozen=True, tag_field="type", tag="allowed_tools", forbid_unknown_fields=True):
    allowed_tools: AllowedTools


Tools = Annotated[list[FunctionTool | CustomTool], Meta(min_length=1, max_length=MOST)]
ToolChoice = Mode | NamedFunction | NamedCustom | Allowed


def check_tools(tools: Tools | None, choice: ToolChoice | None, parallel: bool | None) -> None:
    """What needs tools has them; ApiError 400."""
    if tools is None and choice is not None:
        raise needs_tools("tool_choice")
    if tools is None and parallel is not None:
        raise needs_tools("parallel_tool_calls")


def templates_of(tools: Tools) -> tuple[ToolTemplate, ...]:
    functions = []
    for index, tool in enumerate(tools):
        if not isinstance(tool, FunctionTool):
            raise unsupported(f"tools[{index}].custom", ": only functions are")
        functions.append(tool.function)
    return templates(functions)


def choice_of(choice: ToolChoice | None, parallel: bool | None) -> Choice:
    several = parallel is not False
    match choice:
        case None:
            return Choice("auto", (), several)
        case "none" | "auto" | "required":
            return Choice(choice, (), several)
        case NamedFunction(Named(name)):
            return Choice("required", (name,), False)  # exactly one call, as OpenAI promises
        case Allowed(AllowedTools(mode, tools)):
            return Choice(mode, tuple(_name(tool, index) for index, tool in enumerate(tools)), several)
        case NamedCustom():
            raise unsupported("tool_choice.custom", ": only functions are")
        case _:
            assert_never(choice)


def _name(tool: NamedFunction | NamedCustom, index: int) -> str:
    if not isinstance(tool, NamedFunction):
        raise unsupported(f"tool_choice.allowed_tools.tools[{index}].custom", ": only functions are")
    return tool.function.name
