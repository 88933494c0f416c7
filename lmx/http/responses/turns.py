"""Items as the messages that chat templates read: what one turn of the model consists of becomes one message."""

from collections.abc import Iterable
from typing import Any

from lmx.http.errors import ApiError, shown
from lmx.http.messages import TemplateMessage
from lmx.http.responses.items import FunctionCall, FunctionOutput, InputImage, Item, Message, Reasoning, text_of


def messages_of(instructions: str | None, earlier: Iterable[Item], own: Iterable[Item]) -> tuple[TemplateMessage, ...]:
    """Raises ApiError for the output of a function that was not called, and for a call without output."""
    turns = Turns()
    if instructions:
        turns.instruct(instructions)
    for item in earlier:
        turns.add(item, "previous_response_id")
    for index, item in enumerate(own):
        turns.add(item, f"input[{index}]")
    turns.end()
    return tuple(turns.messages)


class Turns:
    def __init__(self) -> None:
        self.messages: list[TemplateMessage] = []
        self._turn: dict[str, Any] | None = None
        """The model's own message, while more of it may come: once it has called, up to the outputs."""
        self._called: set[str] = set()
        self._waiting: dict[str, None] = {}
        """Calls without output; one that was broken off may stay without."""

    def add(self, item: Item, place: str) -> None:
        """`place` is where it is in the request."""
        match item:
            case Message(role="user") if item.sees:
                self._append({"role": "user", "content": _parts(item, place)})
            case Message() if item.sees:
                raise ApiError(400, "Only messages of the user may have images.", "invalid_value", f"{place}.content")
            case Message(role="assistant"):
                self._say(item.text)
            case Message(role="user"):
                self._append({"role": "user", "content": item.text})
            case Message():
                self.instruct(item.text)
            case Reasoning():
                self._think(item.text)
            case FunctionCall():
                self._call(item)
            case FunctionOutput():
                self._tell(item)

    def instruct(self, text: str) -> None:
        """Many templates take one message of the system only, at the beginning: there, several become one."""
        if all(message["role"] == "system" for message in self.messages) and self.messages:
            self.messages[0]["content"] += f"\n\n{text}"
        else:
            self._append({"role": "system", "content": text})

    def end(self) -> None:
        """No more items come."""
        if self._waiting:
            text = f"No tool output found for function call {shown(next(iter(self._waiting)))}."
            raise ApiError(400, text, None, "input")

    def _say(self, text: str) -> None:
        turn = self._turn
        if turn is None or (turn["content"] and "tool_calls" not in turn):
            turn = self._begin({})
        turn["content"] = _after(turn["content"], text)

    def _think(self, text: str) -> None:
        turn = self._turn
        if turn is None or "tool_calls" not in turn:
            self._begin({"reasoning_content": text})
        else:
            turn["reasoning_content"] = _after(turn.get("reasoning_content", ""), text)

    def _call(self, item: FunctionCall) -> None:
        self._called.add(item.call_id)
        if item.status != "incomplete":
            self._waiting[item.call_id] = None
        turn = self._turn if self._turn is not None else self._begin({})
        function = {"name": item.name, "arguments": item.arguments}
        turn.setdefault("tool_calls", []).append({"id": item.call_id, "type": "function", "function": function})

    def _tell(self, item: FunctionOutput) -> None:
        if item.call_id not in self._called:
            text = f"No tool call found for function call output with call_id {shown(item.call_id)}."
            raise ApiError(400, text, None, "input")
        self._waiting.pop(item.call_id, None)
        self._append({"role": "tool", "tool_call_id": item.call_id, "content": item.text})

    def _begin(self, more: dict[str, Any]) -> dict[str, Any]:
        turn = {"role": "assistant", "content": "", **more}
        self._append(turn)
        self._turn = turn
        return turn

    def _append(self, message: TemplateMessage) -> None:
        self._turn = None
        self.messages.append(message)


def _after(before: str, text: str) -> str:
    return f"{before}\n\n{text}" if before and text else before or text


def _parts(message: Message, place: str) -> list[dict[str, Any]]:
    """As lmx/http/images.py takes them."""
    assert not isinstance(message.content, str)
    return [
        {"type": "image", "url": part.image_url, "param": f"{place}.content[{at}]"}
        if isinstance(part, InputImage)
        else {"type": "text", "text": text_of(part)}
        for at, part in enumerate(message.content)
    ]
