"""The input of a request before it is read: what is left out is filled in, what lmx cannot take is refused by name."""

from collections.abc import Mapping
from typing import Any

from lmx.http.errors import ApiError, shown
from lmx.http.fields import unsupported

ITEMS = ("message", "reasoning", "function_call", "function_call_output", "item_reference")
PARTS: Mapping[str, tuple[str, ...]] = {
    "content": ("input_text", "input_image", "output_text", "refusal", "reasoning_text"),
    "output": ("input_text",),
    "summary": ("summary_text",),
}
TOOLS = ("function",)
# Of OpenAI's schema, and not of lmx.
FOREIGN = frozenset(
    {
        "input_image",
        *("input_file", "input_audio", "computer_screenshot", "encrypted_content"),
        *("file_search_call", "computer_call", "computer_call_output", "web_search_call", "image_generation_call"),
        *("code_interpreter_call", "local_shell_call", "local_shell_call_output", "shell_call", "shell_call_output"),
        *("apply_patch_call", "apply_patch_call_output", "mcp_list_tools", "mcp_approval_request", "mcp_call"),
        *("mcp_approval_response", "custom_tool_call", "custom_tool_call_output", "compaction", "compaction_trigger"),
        *("tool_search_call", "tool_search_output", "additional_tools", "program", "program_output"),
        *("file_search", "computer", "computer_use_preview", "web_search", "web_search_2025_08_26", "mcp"),
        *("code_interpreter", "image_generation", "local_shell", "shell", "custom", "namespace", "tool_search"),
        *("web_search_preview", "web_search_preview_2025_03_11", "apply_patch", "programmatic_tool_calling"),
    }
)


def filled(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a request that are not null, nor are those of its items and tools."""
    given = dict(fields)
    if isinstance(given.get("input"), list):
        given["input"] = [_item(item, f"input[{index}]") for index, item in enumerate(given["input"])]
    if isinstance(given.get("tools"), list):
        given["tools"] = [_known(tool, f"tools[{index}]", TOOLS) for index, tool in enumerate(given["tools"])]
    if isinstance(given.get("tool_choice"), dict):
        given["tool_choice"] = _known(given["tool_choice"], "tool_choice", ("function", "allowed_tools"))
    if isinstance(given.get("text"), dict):
        given["text"] = _bare(given["text"])
        if "format" in given["text"]:
            given["text"]["format"] = _bare(given["text"]["format"])
    return given


def _item(value: object, place: str) -> object:
    item = _bare(value)
    if not isinstance(item, dict):
        return item
    item.setdefault("type", "item_reference" if "id" in item and "role" not in item else "message")
    _known(item, place, ITEMS)
    for field, kinds in PARTS.items():
        if isinstance(item.get(field), list):
            item[field] = [_known(part, f"{place}.{field}[{at}]", kinds) for at, part in enumerate(item[field])]
    return item


def _known(value: object, place: str, kinds: tuple[str, ...]) -> object:
    """Raises ApiError when its type is none of these."""
    given = _bare(value)
    kind = given.get("type") if isinstance(given, dict) else None
    if isinstance(kind, str) and kind not in kinds:
        if kind in FOREIGN:
            raise unsupported(f"{place}.type", f": '{kind}' is none of {', '.join(map(repr, kinds))}")
        listed = ", ".join(map(repr, kinds))
        text = f"Invalid value: {shown(repr(kind))}. Supported values are: {listed}."
        raise ApiError(400, text, "invalid_value", f"{place}.type")
    return given


def _bare(value: object) -> Any:
    """Clients send the fields of lmx's own replies back as null."""
    return {name: one for name, one in value.items() if one is not None} if isinstance(value, dict) else value
