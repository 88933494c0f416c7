"""How a chat is to think, however its client says it: OpenAI's field, that of Qwen and vLLM, or the template's own."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple, get_args

from msgspec import Meta, Struct

from lmx.http.errors import ApiError
from lmx.http.fields import convert
from lmx.machines.speech import Effort, Thinking

Budget = Annotated[int, Meta(ge=0, le=2**31 - 1)]
EFFORTS: Mapping[str, tuple[str, ...]] = {"reasoning_effort": get_args(Effort)}
OWN = ("messages", "tools", "add_generation_prompt", "bos_token", "eos_token")
"""Variables of templates that are the server's."""


class ThinkingOn(Struct, frozen=True, tag_field="type", tag="enabled", forbid_unknown_fields=True):
    budget_tokens: Budget | None = None


class ThinkingOff(Struct, frozen=True, tag_field="type", tag="disabled", forbid_unknown_fields=True):
    pass


ThinkingSwitch = ThinkingOn | ThinkingOff


class Keys(Struct, frozen=True):
    """What `chat_template_kwargs` may say about thinking."""

    reasoning_effort: Effort | None = None
    enable_thinking: bool | None = None
    thinking_budget: Budget | None = None


class InTemplate(Struct, frozen=True):
    chat_template_kwargs: Keys


class Thought(NamedTuple):
    thinking: Thinking
    variables: dict[str, Any]
    """Of the template, beside."""
    names: tuple[str, ...]
    """What the client calls the fields of `thinking` that it sets."""


Said = tuple[str, Any, str]
"""Field of Thinking, its value, and what the client calls it."""


def thought_of(
    effort: Effort | None,
    enabled: bool | None,
    budget: int | None,
    switch: ThinkingSwitch | None,
    variables: Mapping[str, Any] | None,
) -> Thought:
    """Of what a request says; None = nothing. ApiError 400 where it contradicts itself."""
    given = {name: value for name, value in (variables or {}).items() if value is not None}
    said: dict[str, tuple[Any, str]] = {}
    for field, value, name in _said(effort, enabled, budget, switch, given):
        if field in said and said[field][0] != value:
            text = f"'{said[field][1]}' and '{name}' contradict each other."
            raise ApiError(400, text, "invalid_parameter_combination", name)
        said.setdefault(field, (value, name))
    thinking = Thinking(**{field: value for field, (value, _) in said.items()})
    rest = {name: value for name, value in given.items() if name not in Keys.__struct_fields__}
    return Thought(thinking, rest, tuple(name for _, name in said.values()))


def _said(
    effort: Effort | None,
    enabled: bool | None,
    budget: int | None,
    switch: ThinkingSwitch | None,
    variables: Mapping[str, Any],
) -> Iterator[Said]:
    yield from _given(effort, enabled, budget, "")
    if switch is not None:
        yield "enabled", isinstance(switch, ThinkingOn), "thinking"
    if isinstance(switch, ThinkingOn) and switch.budget_tokens is not None:
        yield "budget", switch.budget_tokens, "thinking.budget_tokens"
    for name in OWN:
        if name in variables:
            param = f"chat_template_kwargs.{name}"
            raise ApiError(400, f"'{param}' cannot be set: it is the server's own.", "invalid_value", param)
    keys = convert({"chat_template_kwargs": dict(variables)}, InTemplate, EFFORTS, frozenset()).chat_template_kwargs
    yield from _given(keys.reasoning_effort, keys.enable_thinking, keys.thinking_budget, "chat_template_kwargs.")


def _given(effort: Effort | None, enabled: bool | None, budget: int | None, prefix: str) -> Iterator[Said]:
    said = (
        ("effort", effort, "reasoning_effort"),
        ("enabled", enabled, "enable_thinking"),
        ("budget", budget, "thinking_budget"),
    )
    yield from ((field, value, prefix + name) for field, value, name in said if value is not None)
