"""What users and tools say is text: a control token that is spelt out in it is told to the model as the word it is."""

import re
from collections.abc import Callable, Iterable
from typing import Any

BREAK = "\ufdd0"
"""Where a word is broken, so that the tokenizer does not know it. No character, in no text: Unicode keeps it free."""
QUOTED = frozenset({"user", "tool"})
"""Roles whose text may come from anywhere. What an assistant said holds marks that its template reads."""


class Quoting:
    """Of one model's messages."""

    def __init__(self, controls: Iterable[str]) -> None:
        """`controls`: how its control tokens are written."""
        words = sorted({word for word in controls if len(word) > 1}, key=len, reverse=True)
        self._words = re.compile("|".join(map(re.escape, words))) if words else None

    def quoted(self, message: dict[str, Any]) -> dict[str, Any]:
        content = message.get("content")
        if self._words is None or message.get("role") not in QUOTED or not isinstance(content, str):
            return message
        return {**message, "content": self._words.sub(_broken, plain(content))}


def plain(text: str) -> str:
    """As it was written."""
    return text.replace(BREAK, "")


def encode(text: str, tokens_of: Callable[[str], list[int]]) -> list[int]:
    """The tokens of a text with broken words, which are split where they are broken."""
    return [token for piece in text.split(BREAK) if piece for token in tokens_of(piece)]


def _broken(word: re.Match[str]) -> str:
    return word[0][0] + BREAK + word[0][1:]
