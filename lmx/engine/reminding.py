"""System messages in mid-conversation, for templates that take none there: users remind of them, where they stood."""

from collections.abc import Iterable
from typing import Any

Message = dict[str, Any]
Content = str | list[dict[str, Any]]

REMINDER = "<system-reminder>\n{}\n</system-reminder>"
"""The marks in which coding agents put what is not the user's own; models have read many of them."""


def reminded(messages: Iterable[Message]) -> list[Message]:
    """The same in their order, without a system message that is not in front. What becomes a user's joins the user's
    messages next to it, for some templates want the roles in turn."""
    told: list[Message] = []
    joins = False
    for message in messages:
        late = message["role"] == "system" and any(before["role"] != "system" for before in told)
        said = _reminder(message) if late else message
        if told and (late or joins) and told[-1]["role"] == said["role"] == "user":
            told[-1] = told[-1] | {"content": _joined(told[-1]["content"], said["content"])}
        else:
            told.append(said)
        joins = late
    return told


def _reminder(message: Message) -> Message:
    return {"role": "user", "content": REMINDER.format(_text(message["content"]))}


def _joined(first: Content, second: Content) -> Content:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    return [*_parts(first), *_parts(second)]


def _parts(content: Content) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _text(content: Content) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)
