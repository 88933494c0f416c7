"""One HTTP request at the admission actor: its sequences, from Submit to exactly one Release or Cancel each."""

import asyncio
import re
import time
from collections.abc import Container, Mapping, Sequence
from types import TracebackType
from typing import Self
from uuid import uuid4

from aiohttp import web
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from lmx.actors.messages import admission
from lmx.actors.messages.client import Accepted, Delta, Embedded, Event, Failed, Finished, Prefilled, Refused, Rendered
from lmx.formats.parting import Parting
from lmx.http import replies
from lmx.http.errors import ApiError, of_failure, of_refusal
from lmx.http.gateway import GATEWAY, POST
from lmx.http.mailbox import Item, Mailbox
from lmx.http.presets import completed
from lmx.http.record import RECORD
from lmx.http.replies import CompletionDetails, PromptDetails, Truncated
from lmx.http.terms import terms_of
from lmx.http.written import Written
from lmx.machines.speech import Speech, function_of
from lmx.machines.tasks import Task
from lmx.machines.types import CacheReport, Chat, Cut, Generation, Refusal, RefusalKind, Usage

TOOL = re.compile(r"^tools\[(\d+)\]")


class Exchange:
    """`async with Exchange(...)`: whatever happens inside, every sequence is settled at its end."""

    eager: Container[str] | None = None
    """Functions whose calls are told as they come, others when they are whole; None = all."""
    names: Mapping[str, str] = {}
    """What the client calls a field that the model may refuse, where that has a name of its own."""
    advice: Mapping[str, str] = {}
    """What to do about what the model cannot do, by the field that it refuses."""
    tools: Sequence[int] = ()
    """Where in the request the tools are that the model is told of; () = all of them, as they came."""

    def __init__(
        self,
        request: web.Request,
        prefix: str,
        model: str,
        generations: Sequence[Task],
        blame: str,
        n: int = 1,
        keep_alive: float | None = None,
    ) -> None:
        """`prefix` begins the reply's id; `blame` is the field that a refused prompt is put down to.

        Every `n` generations in a row are choices for the same prompt. `keep_alive`: seconds that the model is to stay.
        """
        self.id = f"{prefix}-{uuid4().hex}"
        self.model = model
        self.created = int(time.time())
        self._cuts: dict[int, Cut] = {}
        self.reports: dict[int, CacheReport] = {}
        self.partings: dict[int, Parting] = {}
        """Of sequences whose text may be more than an answer."""
        self._usages: dict[int, Usage] = {}
        self._n = n
        self._keep_alive = keep_alive
        self._spoke = False
        self._admission = request.app[GATEWAY].admission
        self._terms = terms_of(request, request.app[GATEWAY].request_seconds)
        self.mailbox = Mailbox(request.app[POST])
        self._record = request[RECORD]
        self._record.note(model=model, sequences=len(generations))
        preset = request.app[GATEWAY].presets.get(model)
        self._generations = [completed(task, preset) for task in generations]
        self._asked = preset.model if preset is not None else model
        self._record.model = self._asked if self._asked in request.app[GATEWAY].models else ""
        self._blame = blame
        self._open: dict[int, str] = {}
        self._settled: list[str] = []

    def __len__(self) -> int:
        return len(self._generations)

    @property
    def done(self) -> bool:
        """Every sequence has its outcome."""
        return not self._open

    async def __aenter__(self) -> Self:
        for index, generation in enumerate(self._generations):
            name = f"{self.id}-{index}" if len(self) > 1 else self.id
            self._open[index] = name
            sink = self.mailbox.sink(index)
            ask = admission.Submit(
                name,
                self._asked,
                self._terms.client,
                generation,
                sink,
                self.id,
                self._terms.seconds,
                self._terms.key,
                self._terms.retry,
                self._keep_alive,
            )
            self._admission.tell(ask)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """An answer, also one that is an error, has reached the client; anything else means that it did not."""
        self.mailbox.close()
        delivered = error is None or isinstance(error, ApiError)
        for name in self._settled:
            self._admission.tell(admission.Release(name) if delivered else admission.Cancel(name))
        for name in self._open.values():
            self._admission.tell(admission.Cancel(name))
        self._note(delivered)

    async def take(self, seconds: float | None = None) -> list[Item]:
        """What has happened since the last call; empty when nothing did in `seconds`."""
        items = await self.mailbox.take(seconds)
        for index, event in items:
            if type(event) is not Delta:
                self._notice(index, event)
            elif not self._spoke:
                self._spoke = True
                self._record.first_text()
        return items

    async def answered(self, seconds: float) -> list[Item]:
        """Wait until every sequence is taken, at most `seconds`; an ApiError as soon as one is refused or failed."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        waiting = set(range(len(self)))
        items: list[Item] = []
        while waiting and (left := deadline - loop.time()) > 0:
            new = await self.take(left)
            for index, event in new:
                waiting.discard(index)
                if isinstance(event, Refused | Failed):
                    raise self.error(event)
            items += new
        return items

    async def collect(self) -> list[Written]:
        """Wait for all of it; an ApiError as soon as one sequence is refused or failed."""
        written = [Written() for _ in self._generations]
        while not self.done:
            for index, event in await self.take():
                if isinstance(event, Refused | Failed):
                    raise self.error(event)
                self._write(written[index], index, event)
        return written

    def usage(self) -> replies.Usage:
        """What the request cost, once every sequence is finished: each prompt counts once, however many choices."""
        first = [self._usages[index] for index in range(0, len(self), self._n)]
        prompt = sum(usage.prompt_tokens for usage in first)
        completion = sum(usage.completion_tokens for usage in self._usages.values())
        cached = PromptDetails(sum(usage.cached_tokens for usage in first))
        thought = CompletionDetails(sum(usage.reasoning_tokens for usage in self._usages.values()))
        return replies.Usage(prompt, completion, prompt + completion, cached, thought)

    def cut(self, index: int | None = None) -> Truncated | UnsetType:
        """What was left out of one choice's prompt, or of all prompts; UNSET when nothing was."""
        whose = range(0, len(self), self._n) if index is None else (index,)
        cuts = [self._cuts[index] for index in whose if index in self._cuts]
        return Truncated(sum(cut.messages for cut in cuts), sum(cut.tokens for cut in cuts)) if cuts else UNSET

    def report(self) -> CacheReport | tuple[CacheReport, ...] | UnsetType:
        """What was known of the prompt, or of each; UNSET when nobody asked."""
        reports = tuple(report for _, report in sorted(self.reports.items()))
        if not reports:
            return UNSET
        return reports[0] if len(self) == self._n else reports

    def error(self, event: Refused | Failed) -> ApiError:
        """What the client is told; the whole request ends with it."""
        error = self._refusal(event.refusal) if isinstance(event, Refused) else of_failure(event.failure)
        self._record.note(error=error.error.code, message=error.error.message)
        return error

    def _refusal(self, refusal: Refusal) -> ApiError:
        """A prompt as a whole is no more than its worst part, where that is what the model cannot do."""
        param, message = refusal.param, refusal.message
        if param is not None and refusal.kind is RefusalKind.UNSUPPORTED and param in self.advice:
            message = f"{message} {self.advice[param]}"
        if param is not None and (param != self._blame or refusal.kind is RefusalKind.UNSUPPORTED):
            param = TOOL.sub(self._place_of, self.names.get(param, param))
        return of_refusal(replace(refusal, param=param, message=message), self._blame)

    def _place_of(self, tool: re.Match[str]) -> str:
        """The model counts the tools that it is told of."""
        number = int(tool[1])
        return f"tools[{self.tools[number] if number < len(self.tools) else number}]"

    def _write(self, written: Written, index: int, event: Event) -> None:
        parting = self.partings.get(index)
        if parting is not None and isinstance(event, Delta):
            written.hear(parting.feed(event.text), event.logprobs)
            return
        written.add(event)
        if parting is not None and isinstance(event, Finished):
            written.hear(parting.end())

    def _accepted(self, index: int, cut: Cut | None, speech: Speech | None) -> None:
        if cut is not None:
            self._cuts[index] = cut
        asked = self._generations[index]
        tools = asked.prompt.tools if isinstance(asked, Generation) and isinstance(asked.prompt, Chat) else ()
        if speech is not None and (speech.thoughts or (speech.calls and tools)):
            self.partings[index] = Parting(speech, [function_of(tool) for tool in tools], self.eager)

    def _notice(self, index: int, event: Event) -> None:
        match event:
            case Accepted(_, _, cut, speech, served):
                self._record.served(served)
                self._accepted(index, cut, speech)
            case Embedded(model=served) | Rendered(model=served):
                self._record.served(served)
            case Prefilled(_, _, report) if report is not None:
                self.reports[index] = report
            case Finished(_, usage):
                self._usages[index] = usage
                self._settled.append(self._open.pop(index))
            case Refused() | Failed():
                self._settled.append(self._open.pop(index))

    def _note(self, delivered: bool) -> None:
        if not delivered:
            self._record.note(outcome="cancelled")
        prompts = [usage for index, usage in self._usages.items() if index % self._n == 0]
        self._record.note(
            prompt_tokens=sum(usage.prompt_tokens for usage in prompts),
            completion_tokens=sum(usage.completion_tokens for usage in self._usages.values()),
            cached_tokens=sum(usage.cached_tokens for usage in prompts),
        )
