"""Errors with the names that fields have in this API: the rest of lmx calls them as chats do."""

import re

from lmx.http.errors import ApiError

PARAMS = (
    ("response_format.json_schema", "text.format"),
    ("response_format", "text.format"),
    ("reasoning_effort", "reasoning.effort"),
)
MOVED = {
    "messages": "input",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
}
"""What clients of chats send here, and what OpenAI tells them to send instead."""

_QUOTED = re.compile(r"(?<=')(?:response_format|reasoning_effort|tools\[)[^']*(?=')")
_NESTED = re.compile(r"^(tools\[\d+\])\.function\b")


def renamed(error: ApiError) -> ApiError:
    """The same error, with the name that its field has in this API."""
    told = error.error
    if told.code == "unknown_parameter":
        return _moved(error, told.param or "")
    if told.param == "prompt" and told.code == "unsupported_parameter":  # not the input, but a field of theirs
        return error
    param = None if told.param is None else _ours(told.param)
    message = _QUOTED.sub(lambda name: _ours(name[0]), told.message)
    return ApiError(error.status, message, told.code, param, type=told.type, headers=error.headers)


def _moved(error: ApiError, param: str) -> ApiError:
    if param not in MOVED:
        return error
    text = (
        f"Unsupported parameter: '{param}'. In the Responses API, this parameter has moved to '{MOVED[param]}'."
        " Try again with the new parameter."
    )
    return ApiError(400, text, "unsupported_parameter", param)


def _ours(param: str) -> str:
    for theirs, ours in PARAMS:
        if param == theirs or param.startswith((f"{theirs}.", f"{theirs}[")):
            return ours + param.removeprefix(theirs)
    return _NESTED.sub(r"\1", param)
