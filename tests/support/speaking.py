"""A worker's whole way from chats to texts, in this process, on any backend."""

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from lmx.backends.base import Backend
from lmx.backends.registry import open_backend
from lmx.engine.chunks import ChunkController
from lmx.engine.intake import Intake, Ready
from lmx.engine.known import KnownPrompts
from lmx.engine.loop import Engine
from lmx.formats.parting import Parting
from lmx.formats.parts import CallArguments, CallBegun, CallEnded, Part, Said, Thought
from lmx.machines import frames
from lmx.machines.speech import Speech
from lmx.machines.types import Chat, Generation, ModelSpec, Refusal
from tests.support.guide import SPECS


@dataclass
class Told:
    text: str = ""
    ids: list[int] = field(default_factory=list)
    thoughts: int = 0
    finish: frames.Finish | None = None
    speech: Speech | None = None

    def parts(self, chat: Chat) -> list[Part]:
        """As the routes read it."""
        assert self.speech is not None
        parting = Parting(self.speech, [tool["function"] for tool in chat.tools])
        return [*parting.feed(self.text), *parting.end()]

    def calls(self, chat: Chat) -> list[tuple[str, str]]:
        """Names and arguments of the calls that are complete."""
        names: dict[int, str] = {}
        arguments: dict[int, str] = {}
        calls: list[tuple[str, str]] = []
        for part in self.parts(chat):
            match part:
                case CallBegun(number, name):
                    names[number], arguments[number] = name, ""
                case CallArguments(number, text):
                    arguments[number] += text
                case CallEnded(number):
                    calls.append((names[number], arguments[number]))
        return calls

    def said(self, chat: Chat) -> str:
        return "".join(part.text for part in self.parts(chat) if isinstance(part, Said))

    def thought(self, chat: Chat) -> str:
        return "".join(part.text for part in self.parts(chat) if isinstance(part, Thought))


class Speaker:
    def __init__(self, spec: ModelSpec) -> None:
        self.backend: Backend = open_backend(spec.backend)
        info = self.backend.load(spec, lambda _: True)
        self.intake = Intake(self.backend, info, spec.chat_template)
        self.info = self.intake.info
        known = KnownPrompts(self.backend, self.info, 0, None)
        self.engine = Engine(self.backend, self.info, known, ChunkController(1.0, 1.0, 512), time.monotonic)
        self._latest = 0

    def prepared(self, generation: Generation, resume: frames.Resume | None = None) -> Ready | frames.Rejected:
        self._latest += 1
        return self.intake.prepare(frames.Insert(self._latest, generation, resume))

    def refusal(self, generation: Generation) -> Refusal:
        rejected = self.prepared(generation)
        assert isinstance(rejected, frames.Rejected), rejected
        return rejected.refusal

    def tell(self, generations: Sequence[Generation]) -> list[Told]:
        """All of them at once, to their ends."""
        told = dict(self._begin(generation) for generation in generations)
        self._run(told, 100_000)
        return list(told.values())

    def tell_one(self, generation: Generation) -> Told:
        (told,) = self.tell([generation])
        return told

    def interrupted(self, generation: Generation, steps: int) -> Told:
        """It is taken away after so many steps, and goes on as in another worker."""
        seq, told = self._begin(generation)
        self._run({seq: told}, steps)
        if told.finish is not None:
            return told
        self.engine.cancel(seq)
        told.thoughts = 0
        seq, _ = self._begin(generation, frames.Resume(tuple(told.ids), len(told.text)))
        self._run({seq: told}, 100_000)
        return told

    def _begin(self, generation: Generation, resume: frames.Resume | None = None) -> tuple[int, Told]:
        ready = self.prepared(generation, resume)
        assert isinstance(ready, Ready), ready
        self.engine.insert(ready)
        return ready.seq, Told(speech=ready.accepted().speech)

    def _run(self, told: dict[int, Told], steps: int) -> None:
        for _ in range(steps):
            if self.engine.idle:
                return
            for did in self.engine.step().seqs:
                one = told[did.seq]
                one.text += did.text
                one.ids += did.token_ids
                one.thoughts += did.thought_tokens
                one.finish = did.finish


@functools.cache
def guide(name: str) -> Speaker:
    """lmx-guide, as mlx or llama_cpp. One thread: two are slower where others compute too."""
    return Speaker(replace(SPECS[name], threads=1))


@functools.cache
def fake(script: str = "", chat_template: str = "") -> Speaker:
    return Speaker(fake_spec(script, chat_template))


def fake_spec(script: str = "", chat_template: str = "") -> ModelSpec:
    return ModelSpec(
        name="f", path="", backend="fake", script=script, chat_template=chat_template, context=4000, slots=4
    )


def function(name: str, parameters: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A tool."""
    return {"type": "function", "function": {"name": name, "parameters": parameters or {"type": "object"}, **more}}
