"""How one model is spoken to, and how what it writes is to be read: its chat template, and what that knows of."""

import json
from collections.abc import Mapping
from dataclasses import replace as replaced
from functools import cached_property
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from lmx.backends.base import Info
from lmx.engine.refusing import unsupported
from lmx.engine.reminding import reminded
from lmx.engine.template import NO_VARIABLES, RESERVED, ChatTemplate, TemplateError
from lmx.engine.thinking import SWITCHES, Mode, mode, off_variables
from lmx.formats import table
from lmx.machines.speech import Speech
from lmx.machines.types import Chat

Message = dict[str, Any]

QUESTION: Message = {"role": "user", "content": "?"}
PROBE = "lmx_probe"
"""A value that stands in a prompt where a template writes what held it."""


class Dialect:
    """Raises TemplateError for a template that is no valid Jinja."""

    def __init__(self, info: Info, source: str, name: str = "The model's chat template") -> None:
        """`name` is what errors call the template."""
        self.template = ChatTemplate(source, bos=info.bos_text, eos=info.eos_text, name=name)
        taught = table.detect(source)
        self.speech = replace(taught, switch=bool(taught.thoughts and off_variables(self.template)))

    def mode(self, chat: Chat) -> Mode:
        """How it is to think in its answer. Raises Refused."""
        return mode(chat, self.speech, self.template, quiet=self._quiet)

    def variables(self, chat: Chat) -> dict[str, Any]:
        """What the template is given beside the messages. Raises Refused."""
        own: dict[str, Any] = {}
        if chat.tools:
            self._check_tools()
            own["tools"] = [_tool(tool) for tool in chat.tools]
        thinking = self.mode(chat).variables
        self._check_variables(chat.variables)
        return own | thinking | chat.variables

    def readable(self, messages: tuple[Message, ...]) -> list[Message]:
        """As this template reads calls and thoughts of former turns, and what the system says between them."""
        placed = messages if self._takes_late_system else reminded(messages)
        return [self._readable(message) for message in placed]

    def _check_tools(self) -> None:
        if "tools" not in self.template.variables:
            raise unsupported("This model's chat template does not know tools, so it cannot call any.", "tools")
        if not self.speech.calls:
            text = (
                "This model's chat template knows tools, but not in which form it is to call them: no format is known."
            )
            raise unsupported(text, "tools")

    def _check_variables(self, variables: Mapping[str, Any]) -> None:
        if reserved := sorted(RESERVED & variables.keys()):
            raise unsupported(f"'chat_template_kwargs' cannot set {_listed(reserved)}.", "chat_template_kwargs")
        unknown = sorted(name for name in variables if name not in self.template.variables and name not in SWITCHES)
        if unknown:
            text = f"This model's chat template does not know {_listed(unknown)}, which 'chat_template_kwargs' sets."
            raise unsupported(text, "chat_template_kwargs")

    def _readable(self, message: Message) -> Message:
        changed = dict(message)
        if calls := message.get("tool_calls"):
            changed["tool_calls"] = [self._call(call) for call in calls]
        thoughts = message.get("reasoning_content")
        if thoughts and self._reads_thinking and "thinking" not in message:
            changed["thinking"] = thoughts
            if self.speech.calls == "harmony" and calls and message.get("content"):  # beside calls it takes one of them
                changed["thinking"], changed["content"] = f"{thoughts}\n\n{message['content']}", ""
        return changed

    def _call(self, call: dict[str, Any]) -> dict[str, Any]:
        """With arguments as an object, which is what Hugging Face's templates expect, unless this one does not."""
        function = call.get("function")
        if not isinstance(function, dict) or not isinstance(function.get("arguments"), str) or not self._takes_objects:
            return call
        try:
            arguments = json.loads(function["arguments"] or "{}")
        except ValueError:
            return call
        return {**call, "function": {**function, "arguments": arguments}} if isinstance(arguments, dict) else call

    @cached_property
    def _takes_late_system(self) -> bool:
        """Also one that is not in front is told, and nothing refused for it."""
        late = {"role": "system", "content": PROBE}
        return PROBE in (self._tried([QUESTION, late, {"role": "assistant", "content": "!"}, QUESTION]) or "")

    @cached_property
    def _takes_objects(self) -> bool:
        """False where a template writes arguments only if they come as text."""
        return PROBE in self._told_arguments({"x": PROBE}) or PROBE not in self._told_arguments(f'{{"x": "{PROBE}"}}')

    def _told_arguments(self, arguments: Any) -> str:
        function = {"name": "f", "arguments": arguments}
        call = {"id": "call00000", "type": "function", "function": function}
        return self._tried([QUESTION, {"role": "assistant", "content": "", "tool_calls": [call]}]) or ""

    @property
    def _reads_thinking(self) -> bool:
        return any(mark in self.template.source for mark in (".thinking", '"thinking"', "'thinking'"))

    @cached_property
    def _quiet(self) -> bool:
        """Unless it is asked to, it does not think: left alone, the template does as when it is switched off."""
        off = off_variables(self.template)
        if not off:
            return False
        plain = self._tried([QUESTION])
        return plain is not None and plain == self._tried([QUESTION], off)

    def _tried(self, messages: list[Message], variables: Mapping[str, Any] = NO_VARIABLES) -> str | None:
        """None where the template refuses."""
        try:
            return self.template.render(messages, variables)
        except TemplateError:
            return None


def dialect_of(info: Info, path: str = "") -> Dialect | None:
    """Of the model's own template, or of the Jinja file at `path`; None without either. Raises TemplateError."""
    if path:
        try:
            return Dialect(info, Path(path).read_text(encoding="utf-8"), f"The chat template {path}")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise TemplateError(f"The chat template {path} cannot be read: {reason}.") from error
    return Dialect(info, info.chat_template) if info.chat_template else None


def audible(info: Info, speech: Speech) -> Info:
    """With the marks of calls and thoughts in the text also where they are control tokens; what ends it is not."""
    marks = table.marks(speech)
    shown = {token: text for token, text in info.controls.items() if text in marks and token not in info.eos}
    if not any(not info.token_bytes[token] for token in shown):
        return info
    pieces = list(info.token_bytes)
    for token, text in shown.items():
        pieces[token] = text.encode()
    return replaced(info, token_bytes=pieces)


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    """Without what is said to the server only."""
    function = {name: value for name, value in tool["function"].items() if name != "strict"}
    return {**tool, "function": function}


def _listed(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
