"""Tools and `tool_choice` as the Responses API spells them: a function is not nested, as it is in chats."""

from collections.abc import Sequence
from typing import Any, Literal

from msgspec import Struct

from lmx.http.tools import Choice, Function, Mode, Rules, ToolTemplate, calling, needs_tools, templates
from lmx.machines.speech import Calling

RULES = Rules(name=128, description=None)


class FunctionTool(Struct, frozen=True, tag_field="type", tag="function", forbid_unknown_fields=True):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    """Calls of it obey the schema also where the model chooses to call."""


class NamedFunction(Struct, frozen=True, tag_field="type", tag="function", forbid_unknown_fields=True):
    """That function is called."""

    name: str


class AllowedTools(Struct, frozen=True, tag_field="type", tag="allowed_tools", forbid_unknown_fields=True):
    """Only these may be called."""

    mode: Literal["auto", "required"]
    tools: list[NamedFunction]


ToolChoice = Mode | NamedFunction | AllowedTools


class Toolbox:
    """What a request says of tools, checked: an ApiError names what is wrong."""

    def __init__(self, tools: Sequence[FunctionTool] | None, choice: ToolChoice | None, *, parallel: bool) -> None:
        wanted = _choice(choice, parallel)
        if choice not in (None, "none", "auto") and not tools:
            raise needs_tools("tool_choice")
        functions = [Function(tool.name, tool.description, tool.parameters, tool.strict) for tool in tools or ()]
        offered = templates(functions, "tools[{}]", RULES)
        self.calling: Calling | None = calling(wanted, offered)
        self.templates: tuple[ToolTemplate, ...] = () if wanted.mode == "none" else offered


def _choice(choice: ToolChoice | None, parallel: bool) -> Choice:
    match choice:
        case NamedFunction(name):
            return Choice("required", (name,), False)  # exactly one call, as OpenAI promises
        case AllowedTools(mode, tools):
            return Choice(mode, tuple(tool.name for tool in tools), parallel)
        case str():
            return Choice(choice, (), parallel)
    return Choice("auto", (), parallel)
