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
    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    reason: FinishReason = "stop"
    stop: str = ""
    """The stop string that ended it, if one did."""
    answer: Embedded | Rendered | None = None
    """Of what writes no text."""

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def thought(self) -> str:
        return "".join(self.thoughts)

    @property
    def finish(self) -> str:
        """As OpenAI names it: a chat that calls functions ends for that, unless one of the calls is broken."""
        return finish_of(self.reason, called=bool(self.calls) and all(call.ended for call in self.calls))

    def add(self, event: Event) -> None:
        match event:
            case Delta(text, logprobs):
                self.texts.append(text)
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
                case Said(text):
                    self.texts.append(text)
                case Thought(text):
                    self.thoughts.append(text)
                case CallBegun(_, name, id):
                    self.calls.append(Call(name, id))
                case CallArguments(_, text):
                    self.calls[-1].arguments += text
                case CallEnded():
                    self.calls[-1].ended = True


def finish_of(reason: FinishReason, *, called: bool) -> str:
    return "tool_calls" if called and reason == "stop" else reason
