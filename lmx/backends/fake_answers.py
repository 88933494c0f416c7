"""What the fake backend is told to say."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from lmx.backends.base import LoadError

CLOSE = b"</think>"


@dataclass(frozen=True)
class Answers:
    """By a text that the prompt holds; "" is in every prompt."""

    texts: Mapping[bytes, bytes] = field(default_factory=dict)

    def to(self, prompt: bytes) -> bytes | None:
        """None where nothing is told."""
        places = {prompt.rfind(text): answer for text, answer in self.texts.items() if text and text in prompt}
        return places[max(places)] if places else self.texts.get(b"")


def answers(words: Mapping[str, str]) -> Answers:
    """As the words `say` and `answers` of a script have it. Raises LoadError."""
    texts: dict[bytes, bytes] = {}
    if "answers" in words:
        try:
            told = json.loads(Path(words["answers"]).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise LoadError(f"The fake backend's answers cannot be read: {error}") from error
        texts = {text.encode(): answer.encode() for text, answer in told.items()}
    if "say" in words:
        texts[b""] = unquote(words["say"]).encode()
    return Answers(texts)


def following(answer: bytes, written: bytes, end: int) -> int:
    """The byte of `answer` that comes after what was written, or `end`.

    A thought may have been ended early: then it goes on with what follows the thought.
    """
    rest = answer[len(written) :]
    if not answer.startswith(written) and CLOSE in written:
        said = written.rpartition(CLOSE)[2].lstrip(b"\n")
        rest = answer.rpartition(CLOSE)[2].lstrip(b"\n")[len(said) :]
    return rest[0] if rest else end
