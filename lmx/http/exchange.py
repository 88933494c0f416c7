"""One HTTP request at the admission actor: its sequences, from Submit to exactly one Release or Cancel each."""

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from uuid import uuid4

from aiohttp import web

from lmx.actors.messages import admission
from lmx.actors.messages.client import Delta, Failed, Finished, Refused
from lmx.http.errors import ApiError, of_failure, of_refusal
from lmx.http.gateway import GATEWAY, POST
from lmx.http.mailbox import Item, Mailbox
from lmx.http.record import RECORD
from lmx.machines.types import FinishReason, Generation, Usage


@dataclass
class Written:
    """A sequence's whole text."""

    text: str
    reason: FinishReason
    usage: Usage


class Exchange:
    """`async with Exchange(...)`: whatever happens inside, every sequence is settled at its end."""

    def __init__(
        self, request: web.Request, prefix: str, model: str, generations: list[Generation], blame: str
    ) -> None:
        """`prefix` begins the reply's id; `blame` is the field that a refused prompt is put down to."""
        self.id = f"{prefix}-{uuid4().hex}"
        self.model = model
        self.usages: dict[int, Usage] = {}
        self._admission = request.app[GATEWAY].admission
        self._client = request.remote or "unknown"
        self._mailbox = Mailbox(request.app[POST])
        self._record = request[RECORD]
        self._record.note(model=model, sequences=len(generations))
        self._generations = generations
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
            self._admission.tell(
                admission.Submit(name, self.model, self._client, generation, self._mailbox.sink(index))
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """An answer, also one that is an error, has reached the client; anything else means that it did not."""
        self._mailbox.close()
        delivered = error is None or isinstance(error, ApiError)
        for name in self._settled:
            self._admission.tell(admission.Release(name) if delivered else admission.Cancel(name))
        for name in self._open.values():
            self._admission.tell(admission.Cancel(name))
        self._note(delivered)

    async def take(self, seconds: float | None = None) -> list[Item]:
        """What has happened since the last call; empty when nothing did in `seconds`."""
        items = await self._mailbox.take(seconds)
        for index, event in items:
            if isinstance(event, Finished | Refused | Failed):
                self._settled.append(self._open.pop(index))
            if isinstance(event, Finished):
                self.usages[index] = event.usage
            elif isinstance(event, Delta):
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
        texts: list[list[str]] = [[] for _ in self._generations]
        reasons: dict[int, FinishReason] = {}
        while not self.done:
            for index, event in await self.take():
                match event:
                    case Delta(text):
                        texts[index].append(text)
                    case Finished(reason):
                        reasons[index] = reason
                    case Refused() | Failed():
                        raise self.error(event)
        return [Written("".join(text), reasons[i], self.usages[i]) for i, text in enumerate(texts)]

    def error(self, event: Refused | Failed) -> ApiError:
        """What the client is told; the whole request ends with it."""
        error = of_refusal(event.refusal, self._blame) if isinstance(event, Refused) else of_failure(event.failure)
        self._record.note(error=error.error.code, message=error.error.message)
        return error

    def _note(self, delivered: bool) -> None:
        if not delivered:
            self._record.note(outcome="cancelled")
        usages = self.usages.values()
        self._record.note(
            prompt_tokens=sum(usage.prompt_tokens for usage in usages),
            completion_tokens=sum(usage.completion_tokens for usage in usages),
            cached_tokens=sum(usage.cached_tokens for usage in usages),
        )
