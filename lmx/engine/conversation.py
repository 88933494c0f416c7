"""From messages to a prompt's tokens, and back: which tokens belong to which message, and what may be left out."""

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lmx.backends.base import Backend
from lmx.backends.pictures import Tile
from lmx.engine import quoting
from lmx.engine.gallery import Gallery
from lmx.engine.template import NO_VARIABLES, ChatTemplate, TemplateError
from lmx.engine.text import shared
from lmx.machines.types import Cut

Message = dict[str, Any]

_EPHEMERAL = re.compile(r"^x-anthropic-billing-header:[^\n]*\n?", re.MULTILINE | re.IGNORECASE)
"""A line that coding agents put in front of their system prompt, different in every request and meant for a router."""


@dataclass(frozen=True)
class Rendered:
    """A prompt's tokens; `kept` of them, at the beginning, are never cut off."""

    tokens: list[int]
    kept: int = 0
    chat: "Conversation | None" = None

    @property
    def tiles(self) -> Mapping[int, Tile]:
        """The rows of a chat's images, by the first of their ids."""
        return self.chat.tiles if self.chat is not None else {}

    @property
    def text(self) -> str:
        """Of a chat; empty for other prompts."""
        return self.chat.rendered if self.chat is not None else ""

    def boundaries(self) -> tuple[int, ...]:
        """How many tokens there are up to the end of each message; () for plain text."""
        return tuple(self.chat.boundary(self, count) for count in self.chat.counts()) if self.chat else ()

    def turning_points(self) -> Iterator[int]:
        """Where other prompts are likely to branch off: after the system's part and before the last message."""
        if self.chat is not None:
            for count in {self.chat.leading, len(self.chat.messages) - 1}:
                if count > 0:
                    yield self.chat.boundary(self, count)

    def shortened(self, room: int) -> "tuple[Rendered, Cut] | None":
        """As much as fits into `room` tokens, the oldest left out; None when nothing sensible does."""
        if self.chat is not None:
            return self.chat.shortened(room)
        cut = len(self.tokens) - room
        if cut <= 0 or room <= self.kept:
            return None
        return Rendered(self.tokens[: self.kept] + self.tokens[self.kept + cut :], self.kept), Cut(tokens=cut)


class Conversation:
    """Messages with the template and the tokenizer that make a prompt of them."""

    def __init__(
        self,
        messages: Sequence[Message],
        template: ChatTemplate,
        backend: Backend,
        variables: Mapping[str, Any] = NO_VARIABLES,
        gallery: Gallery | None = None,
        prefill: str = "",
    ) -> None:
        """`gallery` has the images whose markers are in the messages, `prefill` is what the answer begins with."""
        self.messages = [_normalised(message) for message in messages]
        self._template = template
        self._backend = backend
        self._variables = variables
        self._gallery = gallery
        self._prefill = prefill
        self.rendered = ""
        """The text that `render` made last."""

    def text(self) -> str:
        """Raises TemplateError."""
        return self._template.render(self.messages, self._variables) + self._prefill

    def render(self) -> Rendered:
        """Raises TemplateError."""
        self.rendered = self.text()
        return Rendered(self._encode(self.rendered), chat=self)

    @property
    def leading(self) -> int:
        """How many system messages there are in front."""
        roles = [message.get("role") for message in self.messages]
        return next((count for count, role in enumerate(roles) if role != "system"), len(roles))

    def counts(self) -> range:
        return range(1, len(self.messages) + 1)

    def boundary(self, rendered: Rendered, count: int) -> int:
        """How many of the prompt's tokens are certain once the first `count` messages are known."""
        try:
            part = self._template.render(self.messages[:count], self._variables, generation_prompt=False)
        except TemplateError:  # some templates refuse a conversation that ends early: no boundary there
            return 0
        known = part[: shared(part, self.rendered)]
        return shared(self._encode(known), rendered.tokens)

    def shortened(self, room: int) -> tuple[Rendered, Cut] | None:
        """Without its oldest turns: what is left begins, after the system's part, with a message of the user."""
        starts = [at for at, message in enumerate(self.messages) if at > self.leading and message.get("role") == "user"]
        at = bisect_left(starts, True, key=lambda start: len(self._without(start).tokens) <= room)
        if at == len(starts):
            return None
        kept = self._without(starts[at])
        return kept, Cut(messages=starts[at] - self.leading, tokens=len(self.render().tokens) - len(kept.tokens))

    def _without(self, start: int) -> Rendered:
        shorter = [*self.messages[: self.leading], *self.messages[start:]]
        same = (self._template, self._backend, self._variables, self._gallery, self._prefill)
        return Conversation(shorter, *same).render()

    @property
    def tiles(self) -> Mapping[int, Tile]:
        """The images' rows, by the first of their ids."""
        return self._gallery.tiles if self._gallery is not None else {}

    def _encode(self, text: str) -> list[int]:
        encode = partial(quoting.encode, tokens_of=partial(self._backend.encode, special=True))
        return encode(text) if self._gallery is None else self._gallery.encode(text, encode)


def _normalised(message: Message) -> Message:
    """Without lines that change with every request and mean nothing to the model."""
    content = message.get("content")
    if message.get("role") != "system" or not isinstance(content, str):
        return message
    return {**message, "content": _EPHEMERAL.sub("", content)}
