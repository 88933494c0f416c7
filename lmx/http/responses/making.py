"""One response while it is made: what the model writes becomes its items, and in the end it is kept."""

from collections.abc import Callable, Sequence
from itertools import count

import msgspec
from msgspec.structs import replace

from lmx.actors.messages.client import Accepted, Delta, Event, Failed, Finished, Prefilled, Refused
from lmx.formats.parts import Part, Said
from lmx.http.errors import ApiError
from lmx.http.exchange import Exchange
from lmx.http.responses import events, reply
from lmx.http.responses.items import Item
from lmx.http.responses.output import Writing
from lmx.http.responses.reply import Response, begun, ended
from lmx.http.responses.request import ResponseRequest
from lmx.http.responses.shelf import Shelf, Stored
from lmx.http.responses.spelling import renamed
from lmx.http.stream import Chunks
from lmx.machines.types import TokenLogprob


class Making:
    def __init__(
        self, exchange: Exchange, asked: ResponseRequest, own: Sequence[Item], owner: str, shelf: Shelf | None
    ) -> None:
        """`own` are the request's items. Without a shelf, or with `store: false`, it is not kept."""
        self.owner = owner
        self._shelf = shelf if asked.store is not False else None
        self._exchange = exchange
        self._own = own
        self._reason = "stop"
        self.number: Callable[[], int] = count().__next__
        """Of the next event."""
        self.writing = Writing(self.number, logprobs=asked.tells_logprobs, seals=asked.seals)
        id = exchange.id.replace("-", "_")
        self.response = begun(id, exchange.created, asked, stores=self._shelf is not None)

    async def collect(self) -> Response:
        """Wait for all of it; an ApiError when it is refused or fails."""
        while not self._exchange.done:
            for index, event in await self._exchange.take():
                self._take(index, event)
        return self.end()

    def hear(self, parts: Sequence[Part], logprobs: Sequence[TokenLogprob]) -> list[events.Event]:
        return self.writing.hear(parts, logprobs)

    def finish(self, reason: str) -> list[events.Event]:
        self._reason = reason
        return self.writing.end(cut=reason == "length")

    def end(self) -> Response:
        """It is finished."""
        ours = {"lmx_cache": self._exchange.report(), "lmx_truncated": self._exchange.cut()}
        self.response = ended(self.response, self.writing.items, self._exchange.usage(), self._reason, **ours)
        self.keep()
        return self.response

    def fail(self, error: ApiError) -> Response:
        self.response = reply.failed(self.response, self.writing.broken_off(), renamed(error))
        self.keep()
        return self.response

    def cancel(self) -> Response:
        self.response = replace(self.response, status="cancelled", output=self.writing.broken_off())
        self.keep()
        return self.response

    def keep(self) -> None:
        """As it is now."""
        if self._shelf is None:
            return
        told = self.response
        stored = Stored(
            id=told.id,
            owner=self.owner,
            previous=told.previous_response_id or "",
            response=msgspec.json.encode(told),
            input=msgspec.json.encode(self._own),
            items=tuple(str(item.id) for item in (*self._own, *told.output)),
        )
        self._shelf.keep(stored)

    def _take(self, index: int, event: Event) -> None:
        parting = self._exchange.partings.get(index)
        match event:
            case Accepted() if self.response.status == "queued":
                self.response = replace(self.response, status="in_progress")
                self.keep()
            case Delta(text, logprobs):
                self.hear(parting.feed(text) if parting is not None else (Said(text),), logprobs)
            case Finished(reason):
                self.hear(parting.end() if parting is not None else (), ())
                self.finish(reason)
            case Refused() | Failed():
                raise self._exchange.error(event)


class ResponseChunks(Chunks):
    def __init__(self, making: Making) -> None:
        self._making = making
        self._opened = False

    def opening(self, index: int, accepted: Accepted) -> bytes:
        if self._opened:
            return b""
        self._opened = True
        number, response = self._making.number, self._making.response
        created = events.Created(sequence_number=number(), response=response)
        return _encoded([created, events.InProgress(sequence_number=number(), response=response)])

    def prefilled(self, index: int, prefilled: Prefilled) -> bytes:
        return b""

    def text(self, index: int, delta: Delta) -> bytes:
        return self.parts(index, (Said(delta.text),), delta.logprobs)

    def parts(self, index: int, parts: Sequence[Part], logprobs: tuple[TokenLogprob, ...]) -> bytes:
        return _encoded(self._making.hear(parts, logprobs))

    def finish(self, index: int, finished: Finished, reason: str) -> bytes:
        return _encoded(self._making.finish(reason))

    def end(self) -> bytes:
        response = self._making.end()
        kind = events.Completed if response.status == "completed" else events.Incomplete
        return events.encoded(kind(sequence_number=self._making.number(), response=response))

    def failed(self, error: ApiError) -> bytes:
        """What went wrong, exactly; then that the response failed. Clients must have heard of its beginning."""
        number, told = self._making.number, renamed(error).error
        opening = self.opening(0, Accepted(0))
        fault = events.Error(sequence_number=number(), code=told.code, message=told.message, param=told.param)
        response = self._making.fail(error)
        return opening + _encoded([fault, events.Failed(sequence_number=number(), response=response)])


def _encoded(told: Sequence[events.Event]) -> bytes:
    return b"".join(map(events.encoded, told))
