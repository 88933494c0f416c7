"""All that a sequence came to, in the form that replies are made of."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from lmx.actors.messages.client import Accepted, Delta, Embedded, Event, Finished, Prefilled, Rendered
from lmx.formats.parts import CallArguments, CallBegun, CallEnded, Part, Said, Thought
from lmx.machines.types import FinishReason, TokenLogprob


@dataclass
class Call:
    """A function that the model wants to be called."""

    name: str
    id: str = ""
    """Where the model gave it one itself."""
    arguments: str = ""
    """A JSON object, where it ended."""
    ended: bool = False


@dataclass
class Written:
    echo: str = ""
    said: list[Said | Thought | Call] = field(default_factory=list)
    """In the order in which it came."""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    reason: FinishReason = "stop"
    stop: str = ""
    """The stop string that ended it, if one did."""
    answer: Embedded | Rendered | None = None
    """Of what writes no text."""
    _call: Call = field(default_factory=lambda: Call(""))
    """The latest."""

    @property
    def text(self) -> str:
        return "".join([part.text for part in self.said if isinstance(part, Said)])

    @property
    def thought(self) -> str:
        return "".join([part.text for part in self.said if isinstance(part, Thought)])

    @property
    def calls(self) -> list[Call]:
        return [part for part in self.said if isinstance(part, Call)]

    @property
    def finish(self) -> str:
        """As OpenAI names it: a chat that calls functions ends for that, unless one of the calls is broken."""
        return finish_of(self.reason, called=bool(self.calls) and all(call.ended for call in self.calls))

    def add(self, event: Event) -> None:
        match event:
            case Delta(text, logprobs):
                self.said.append(Said(text))
                self.logprobs += logprobs
            case Accepted(_, echo):
                self.echo = echo
            case Prefilled(_, logprobs):
                self.prompt_logprobs += logprobs
            case Embedded() | Rendered():
                self.answer = event
            case Finished(reason, _, stop):
                self.reason, self.stop = reason, stop

    def hear(self, parts: Iterable[Part], logprobs: Iterable[TokenLogprob] = ()) -> None:
        """What a piece of the text means, where it is more than text."""
        self.logprobs += logprobs
        for part in parts:
            match part:
                case Said() | Thought():
                    self.said.append(part)
                case CallBegun(_, name, id):
                    self._call = Call(name, id)
                    self.said.append(self._call)
                case CallArguments(_, text):
                    self._call.arguments += text
                case CallEnded():
                    self._call.ended = True


def finish_of(reason: FinishReason, *, called: bool) -> str:
    return "tool_calls" if called and reason == "stop" else reason
