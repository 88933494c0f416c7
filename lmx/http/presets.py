"""Presets: a model with defaults of its own, which clients name `preset:NAME`."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from lmx.http.errors import ApiError
from lmx.machines.speech import Thinking
from lmx.machines.tasks import Rendering, Task
from lmx.machines.types import Chat, Generation, Sampling

PREFIX = "preset:"
# What a default is called by the routes that do not call it as chats do.
CALLED: Mapping[str, tuple[str, ...]] = {
    "max_tokens": ("max_tokens", "max_completion_tokens", "max_output_tokens"),
    "stop": ("stop", "stop_sequences"),
}


class Preset(Struct, frozen=True, kw_only=True):
    model: str
    """Whom its requests go to: a model or an alias; its own name where it is a model of its own."""
    base: str
    """The model or alias that it was made of."""
    defaults: dict[str, Any] = {}
    """Fields of requests that do not give them, as /v1/chat/completions calls them."""
    system: str = ""
    """In front of chats that bring no system message."""
    thinking: Thinking = Thinking()
    """How chats think that do not say it."""


def applied(
    given: dict[str, Any], preset: Preset | None, kind: type[Struct], *, sampling: bool = True
) -> dict[str, Any]:
    """A request's fields that are not null, with the defaults of what it asks for: its own win. `kind` has the fields.

    Without `sampling` how tokens are drawn is left to `sampled`. Raises ApiError where the route lacks a field.
    """
    if preset is None or "temperature" not in kind.__struct_fields__:  # it generates nothing
        return given
    filled = dict(given)
    for name, value in preset.defaults.items():
        if name in Sampling.__struct_fields__ and not sampling:
            continue
        names = [called for called in CALLED.get(name, (name,)) if called in kind.__struct_fields__]
        if not names:
            raise _unable(f"sets '{name}', which this route does not have")
        if not any(called in given for called in names):
            filled[names[0]] = [value] if names[0] == "stop_sequences" and isinstance(value, str) else value
    return filled


def sampled(generation: Generation, preset: Preset | None, asked: Struct) -> Generation:
    """For routes that have fewer fields, or narrower ones: what `asked` does not give is drawn as the preset says."""
    if preset is None:
        return generation
    defaults = {name: value for name, value in preset.defaults.items() if name in Sampling.__struct_fields__}
    usual = {name: value for name, value in defaults.items() if getattr(asked, name, None) is None}
    usual = {name: tuple(value) if isinstance(value, list) else value for name, value in usual.items()}
    return replace(generation, sampling=replace(generation.sampling, **usual))


def completed(task: Task, preset: Preset | None) -> Task:
    """What a model is asked for, with the system prompt and the thoughts of the preset, where it brings none.

    Raises ApiError for a text that is no chat: it has no place for a system prompt.
    """
    if preset is None:
        return task
    if isinstance(task, Generation) and isinstance(task.prompt, Chat):
        return replace(task, prompt=_chat(task.prompt, preset))
    if isinstance(task, Rendering) and isinstance(task.source, Chat):
        return replace(task, source=_chat(task.source, preset))
    if isinstance(task, Generation) and preset.system:
        raise _unable("has a system prompt, for which a plain text has no place: send a chat")
    return task


def _chat(chat: Chat, preset: Preset) -> Chat:
    messages = chat.messages
    if preset.system and not any(message.get("role") == "system" for message in messages):
        messages = ({"role": "system", "content": preset.system}, *messages)
    return replace(chat, messages=messages, thinking=_thinking(chat.thinking, preset.thinking))


def _thinking(asked: Thinking, usual: Thinking) -> Thinking:
    """Who says that there are to be no thoughts has said all."""
    if asked.enabled is False or asked.effort == "none":
        return asked
    asks = asked.enabled is not None or asked.budget is not None or (asked.effort is not None and not asked.hint)
    if usual.enabled is False and asks:
        return asked
    return Thinking(
        enabled=usual.enabled if asked.enabled is None else asked.enabled,
        effort=asked.effort or usual.effort,
        hint=asked.hint and usual.effort is None,
        budget=usual.budget if asked.budget is None else asked.budget,
    )


def _unable(why: str) -> ApiError:
    return ApiError(400, f"The preset {why}.", "unsupported_parameter", "model")
