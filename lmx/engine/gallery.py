"""The images of a chat: where they stand in the rendered text, and what stands for them in the prompt."""

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from lmx.backends.pictures import Picture, Tile

Message = dict[str, Any]
SEAL = secrets.token_hex(8)
"""Nobody outside this process can write a marker."""
MARKER = re.compile(f"<image {SEAL} ([0-9]+)>")


class Gallery:
    """The images of one chat, each looked at when it is first needed."""

    def __init__(self, images: Sequence[bytes], look: Callable[[bytes], Picture]) -> None:
        self._images = images
        self._look = look
        self._hung = 0

    def flattened(self, message: Message) -> Message:
        """With a text for content, and in it a marker for each image part. Messages come in their order, once each."""
        content = message.get("content")
        if not isinstance(content, list):
            return message
        return {**message, "content": "".join([self._in_text(part) for part in content])}

    def encode(self, text: str, encode: Callable[[str], list[int]]) -> list[int]:
        """The tokens of `text`, and the ids of an image for each marker. Raises PictureError."""
        tokens: list[int] = []
        for place, piece in enumerate(MARKER.split(text)):
            tokens += self._pictures[int(piece)].tokens if place % 2 else encode(piece) if piece else []
        return tokens

    @property
    def tiles(self) -> Mapping[int, Tile]:
        """By the first of their ids."""
        return {tile.ids[0]: tile for picture in self._pictures for tile in picture.tiles}

    @cached_property
    def _pictures(self) -> list[Picture]:
        return [self._look(image) for image in self._images]

    def _in_text(self, part: Mapping[str, Any]) -> str:
        if part["type"] == "text":
            text: str = part["text"]
            return text
        self._hung += 1
        return f"<image {SEAL} {self._hung - 1}>"


def captioned(text: str) -> str:
    """A rendered text for people: `[image]` where one stands."""
    return MARKER.sub("[image]", text)
