"""What the model writes, as output items: one after the other, each told as it grows."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from msgspec import UNSET
from msgspec.structs import replace

from lmx.formats.parts import CallArguments, CallBegun, CallEnded, Part, Said, Thought
from lmx.http.logprobs import ChatToken, of_chat
from lmx.http.responses import events
from lmx.http.responses.items import (
    FunctionCall,
    Message,
    Output,
    OutputText,
    Reasoning,
    ReasoningText,
    Status,
    new_id,
    sealed,
)
from lmx.http.responses.likely import Waiting
from lmx.http.tools import call_id
from lmx.machines.types import TokenLogprob

E = TypeVar("E", bound=events.Event)


class Writing:
    """The items so far. `number` gives the next event's number; every method returns what there is to tell."""

    def __init__(self, number: Callable[[], int], *, logprobs: bool = False, seals: bool = False) -> None:
        """`seals`: thoughts are told in `encrypted_content` too."""
        self.items: list[Output] = []
        self._number = number
        self._logprobs = logprobs
        self._seals = seals
        self._open: Message | Reasoning | FunctionCall | None = None
        self._texts: list[str] = []
        self._likely: list[ChatToken] = []
        self._waiting = Waiting()

    def hear(self, parts: Iterable[Part], logprobs: Sequence[TokenLogprob] = ()) -> list[events.Event]:
        self._waiting.add(logprobs)
        told: list[events.Event] = []
        for part in parts:
            told += self._hear(part)
        return told

    def end(self, *, cut: bool) -> list[events.Event]:
        """`cut`: there was more to say. Afterwards there is at least one item."""
        told = [] if self.items or self._open else self._begin(Message("assistant", (), new_id(Message), "in_progress"))
        return told + self._close("incomplete" if cut or isinstance(self._open, FunctionCall) else "completed")

    def broken_off(self) -> list[Output]:
        """The items, where no more will come."""
        if self._open is not None:
            self._put(self._whole(self._open, "incomplete"))
        return self.items

    def _hear(self, part: Part) -> list[events.Event]:
        match part:
            case Said(text):
                return self._say(text) if text else []
            case Thought(text):
                return self._think(text)
            case CallBegun(_, name, id):
                return self._begin(FunctionCall(call_id(id), name, "", new_id(FunctionCall), "in_progress"))
            case CallArguments(_, text):
                self._texts.append(text)
                return [self._of_item(events.ArgumentsDelta, delta=text)]
            case CallEnded():
                return self._close("completed")

    def _say(self, text: str) -> list[events.Event]:
        told: list[events.Event] = []
        if not isinstance(self._open, Message):
            told = self._begin(Message("assistant", (), new_id(Message), "in_progress"))
        likely = of_chat(self._waiting.take(text)).content if self._logprobs else []
        self._texts.append(text)
        self._likely += likely
        return [*told, self._of_item(events.TextDelta, delta=text, logprobs=likely)]

    def _think(self, text: str) -> list[events.Event]:
        told: list[events.Event] = []
        if not isinstance(self._open, Reasoning):
            told = self._begin(Reasoning(new_id(Reasoning), (), (), status="in_progress"))
        self._waiting.take(text)
        self._texts.append(text)
        return [*told, self._of_item(events.ThoughtDelta, delta=text)]

    def _begin(self, item: Message | Reasoning | FunctionCall) -> list[events.Event]:
        """A call that another item cuts off has never ended."""
        told = self._close("incomplete" if isinstance(self._open, FunctionCall) else "completed")
        self._open = item
        told.append(self._event(events.ItemAdded, output_index=len(self.items), item=item))
        if isinstance(item, Message):
            told.append(self._of_item(events.PartAdded, part=OutputText("")))
        elif isinstance(item, Reasoning):
            told.append(self._of_item(events.PartAdded, part=ReasoningText("")))
        return told

    def _close(self, status: Status) -> list[events.Event]:
        item = self._open
        if item is None:
            return []
        whole = self._whole(item, status)
        told = [*self._done(whole), self._event(events.ItemDone, output_index=len(self.items), item=whole)]
        self._put(whole)
        return told

    def _put(self, whole: Output) -> None:
        self.items.append(whole)
        self._open, self._likely = None, []
        self._texts.clear()

    def _whole(self, item: Output, status: Status) -> Output:
        """As it is when no more comes."""
        text = "".join(self._texts)
        if isinstance(item, FunctionCall):
            return replace(item, arguments=text, status=status)
        if isinstance(item, Message):
            return replace(item, content=(OutputText(text, (), self._likely),), status=status)
        seal = sealed(text) if self._seals else UNSET
        return replace(item, content=(ReasoningText(text),), encrypted_content=seal, status=status)

    def _done(self, item: Output) -> list[events.Event]:
        """The end of its content."""
        text = "".join(self._texts)
        if isinstance(item, FunctionCall):
            return [self._of_item(events.ArgumentsDone, name=item.name, arguments=text)]
        part = item.content[0]
        if isinstance(item, Message):
            done: events.Event = self._of_item(events.TextDone, text=text, logprobs=self._likely)
        else:
            done = self._of_item(events.ThoughtDone, text=text)
        return [done, self._of_item(events.PartDone, part=part)]

    def _of_item(self, kind: type[E], **fields: object) -> E:
        assert self._open is not None
        return self._event(kind, output_index=len(self.items), item_id=self._open.id, **fields)

    def _event(self, kind: type[E], **fields: object) -> E:
        return kind(sequence_number=self._number(), **fields)
