"""Messages of a chat, as clients send them."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Role = Literal["system", "developer", "user", "assistant", "tool"]
Label = Annotated[str, Meta(max_length=512)]


class TextPart(Struct, frozen=True, tag_field="type", tag="text", forbid_unknown_fields=True):
    text: str


class Message(Struct, frozen=True, forbid_unknown_fields=True):
    role: Role
    content: str | Annotated[list[TextPart], Meta(min_length=1)]
    name: Label | None = None
    tool_call_id: Label | None = None

    def plain(self) -> dict[str, str]:
        """As chat templates read it: one string, and OpenAI's newer name of `system` undone."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        given = {"name": self.name, "tool_call_id": self.tool_call_id}
        labels = {field: value for field, value in given.items() if value is not None}
        return {"role": "system" if self.role == "developer" else self.role, "content": text, **labels}


def without_nulls(message: object) -> object:
    """The openai client sends the fields of its own replies back as null."""
    if not isinstance(message, dict):
        return message
    return {name: value for name, value in message.items() if value is not None or name == "content"}
