"""From Anthropic's turns to the messages that chat templates read."""

import json
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from lmx.http.anthropic.blocks import (
    Content,
    DocumentBlock,
    ImageBlock,
    Message,
    RedactedBlock,
    Result,
    SearchResultBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    joined,
)
from lmx.http.anthropic.faults import at
from lmx.http.errors import shown

ORPHANED = (
    "`tool_use` ids were found without `tool_result` blocks immediately after: {ids}. Each `tool_use` block must have"
    " a corresponding `tool_result` block in the next message."
)
UNASKED = (
    "unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must have a corresponding"
    " `tool_use` block in the previous message."
)
TWICE = "each tool_use must have a single result. Found multiple `tool_result` blocks with id: {id}"
EMPTY = "all messages must have non-empty content except for the optional final assistant message"
TRAILING = "final assistant content cannot end with trailing whitespace"
ROLES = {
    "user": (TextBlock, ImageBlock, DocumentBlock, SearchResultBlock, ToolResultBlock),
    "assistant": (TextBlock, ToolUseBlock, ThinkingBlock, RedactedBlock),
    "system": (TextBlock,),
}
ERROR = "Error: "
"""Put before the text of a tool's result that is an error: no template has another place for it."""

Plain = dict[str, Any]


@dataclass(frozen=True)
class Placed:
    """A block, and where it was sent."""

    place: str
    block: Content


@dataclass(frozen=True)
class Turn:
    """Messages of the same role in a row, which are one."""

    role: str
    place: str
    """Of its last message."""
    blocks: list[Placed]

    def of(self, kind: type) -> list[Any]:
        return [placed.block for placed in self.blocks if isinstance(placed.block, kind)]


@dataclass(frozen=True)
class Script:
    """A conversation as templates read it; images are parts with their URL (lmx/http/images.py)."""

    messages: list[Plain]
    prefill: str = ""
    """What the answer begins with already."""
    cleared: int = 0
    """How many turns of the assistant had thoughts that are not kept."""


def script_of(messages: Sequence[Message], system: str, remembers: int | None = None, *, ends: bool = False) -> Script:
    """Raises ApiError, in Anthropic's words, for a conversation that cannot be one.

    `remembers`: of how many rounds the thoughts are kept, from the latest back; None = all. `ends`: an assistant's
    message at the end is told as it is, with its thoughts, not continued.
    """
    turns = _turns(messages)
    _check_tools(turns)
    prefill = _prefill(turns.pop()) if turns and turns[-1].role == "assistant" and not ends else ""
    told = "\n".join(filter(None, [system, *_preface(messages)]))
    plain = [{"role": "system", "content": told}] if told else []
    forgotten = _forgotten(turns, remembers)
    for number, turn in enumerate(turns):
        plain += _assistant(turn, number >= forgotten) if turn.role == "assistant" else _others(turn)
    cleared = sum(bool(turn.of(ThinkingBlock)) for turn in turns[:forgotten])
    return Script(plain, prefill, cleared)


def _opening(messages: Sequence[Message]) -> int:
    """How many messages come before the first of an assistant."""
    return next((number for number, message in enumerate(messages) if message.role == "assistant"), len(messages))


def _preface(messages: Sequence[Message]) -> Iterator[str]:
    """What the system says before the assistant first speaks: agents send it behind the first question, and models that
    find it there take it for the question."""
    for number, message in enumerate(messages[: _opening(messages)]):
        if message.role == "system":
            blocks = [placed.block for placed in _placed(f"messages.{number}", message)]
            if not blocks:
                raise at(f"messages.{number}", EMPTY)
            yield joined(block for block in blocks if isinstance(block, TextBlock))


def _turns(messages: Sequence[Message]) -> list[Turn]:
    opening = _opening(messages)
    numbered = [
        (f"messages.{number}", message)
        for number, message in enumerate(messages)
        if message.role != "system" or number > opening
    ]
    turns = []
    for role, run in groupby(numbered, key=lambda item: item[1].role):
        group = list(run)
        blocks = [placed for place, message in group for placed in _placed(place, message)]
        turns.append(Turn(role, group[-1][0], blocks))
    for turn in turns:
        if not turn.blocks and (turn is not turns[-1] or turn.role != "assistant"):
            raise at(turn.place, EMPTY)
    return turns


def _placed(place: str, message: Message) -> Iterator[Placed]:
    for number, block in enumerate(message.blocks()):
        where = f"{place}.content.{number}"
        if not isinstance(block, ROLES[message.role]):
            raise at(where, f"`{_kind(block)}` blocks cannot be in {message.role} messages")
        yield Placed(where, block)


def _kind(block: Content) -> str:
    return str(type(block).__struct_config__.tag)


def _check_tools(turns: Sequence[Turn]) -> None:
    """Every call is answered in the turn after it, and nothing else is."""
    asked: list[str] = []
    for before, turn in zip([None, *turns], [*turns, None], strict=True):
        given = {block.tool_use_id for block in turn.of(ToolResultBlock)} if turn else set()
        if before and (lost := [id for id in asked if id not in given]):
            raise at(before.place, ORPHANED.format(ids=", ".join(map(shown, lost))))
        _check_results(turn.blocks if turn else (), asked)
        asked = [block.id for block in turn.of(ToolUseBlock)] if turn else []


def _check_results(blocks: Iterable[Placed], asked: Container[str]) -> None:
    """Each is of another call, of those that were asked for."""
    answered: set[str] = set()
    for placed in blocks:
        if isinstance(placed.block, ToolResultBlock):
            id = placed.block.tool_use_id
            if id not in asked or id in answered:
                raise at(placed.place, (TWICE if id in answered else UNASKED).format(id=shown(id)))
            answered.add(id)


def _forgotten(turns: Sequence[Turn], remembers: int | None) -> int:
    """The first turn whose thoughts are kept. A round ends where a user speaks, not where tools answer."""
    if remembers is None:
        return 0
    kept = 0
    thought = False
    for number, turn in reversed(list(enumerate(turns))):
        if turn.role == "assistant":
            thought = thought or bool(turn.of(ThinkingBlock))
        elif turn.role == "user" and not turn.of(ToolResultBlock):
            kept, thought = kept + thought, False
            if kept == remembers:
                return number
    return 0


def _prefill(turn: Turn) -> str:
    if turn.of(ThinkingBlock) or turn.of(RedactedBlock):
        raise at(turn.place, "the final assistant message is continued, which cannot be done with its thoughts")
    text = "".join(block.text for block in turn.of(TextBlock))
    if text != text.rstrip():
        raise at("messages", TRAILING)
    return text


def _assistant(turn: Turn, thinks: bool) -> list[Plain]:
    message: Plain = {"role": "assistant", "content": "".join(block.text for block in turn.of(TextBlock))}
    if thinks and (thought := "".join(block.thinking for block in turn.of(ThinkingBlock))):
        message["reasoning_content"] = thought
    if calls := [_call(block) for block in turn.of(ToolUseBlock)]:
        message["tool_calls"] = calls
    return [message]


def _call(block: ToolUseBlock) -> Plain:
    """Arguments are spelt as models are taught to write them, so that a call of their own is known again."""
    function = {"name": block.name, "arguments": json.dumps(block.input, ensure_ascii=False)}
    return {"id": block.id, "type": "function", "function": function}


def _others(turn: Turn) -> Iterator[Plain]:
    """Of users, with the results of tools among them, and of the system: in the order in which they were sent."""
    for is_result, run in groupby(turn.blocks, key=lambda placed: isinstance(placed.block, ToolResultBlock)):
        if is_result:
            yield from (_result(placed.place, placed.block) for placed in run)
        else:
            yield {"role": turn.role, "content": _content((placed.place, placed.block) for placed in run)}


def _result(place: str, block: Content) -> Plain:
    assert isinstance(block, ToolResultBlock)
    parts = [TextBlock(text=block.content)] if isinstance(block.content, str) else block.content or []
    content = _content((f"{place}.tool_result.content.{number}", part) for number, part in enumerate(parts))
    if block.is_error:
        content = ERROR + content if isinstance(content, str) else [{"type": "text", "text": ERROR}, *content]
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": content}


def _content(blocks: Iterable[tuple[str, Content | Result]]) -> str | list[Plain]:
    """One string, or parts where there are images among the texts. Texts that were sent apart stay apart."""
    parts: list[Plain] = []
    for place, block in blocks:
        if isinstance(block, ImageBlock):
            parts.append({"type": "image", "url": block.source.link, "param": f"{place}.image.source"})
        elif not isinstance(block, ToolUseBlock | ToolResultBlock | ThinkingBlock | RedactedBlock):
            parts.append({"type": "text", "text": block.text})
    if any(part["type"] == "image" for part in parts):
        return parts
    return "\n".join(part["text"] for part in parts)
