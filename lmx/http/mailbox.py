"""From the actors' threads to the event loop: many streams' events cross in one wake-up, and no sender ever waits."""

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import chain
from math import inf
from typing import Generic, TypeVar

from lmx.actors.messages.client import Delta, Event, Prefilled
from lmx.actors.messages.ref import Ref

M = TypeVar("M")
R = TypeVar("R")
Item = tuple[int, Event]
"""Which of the request's sequences, and what happened to it."""

FOLD_AT = 64
"""Events that a slow reader may leave before they are joined."""
LIKELY_BYTES = 96
"""About what one likely token costs on the wire."""


class Post:
    """One per event loop. A burst of events, for however many mailboxes, wakes the loop once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._crossing: deque[tuple[Mailbox, int, Event]] = deque()
        self._awake = False

    def put(self, mailbox: "Mailbox", index: int, event: Event) -> None:
        """From any thread. Append first, then look at the flag: `_deliver` does it the other way round."""
        self._crossing.append((mailbox, index, event))
        if not self._awake:
            self._awake = True
            call_soon(self._loop, self._pause)

    def _pause(self) -> None:
        """Go round the loop once, which lets the sender's thread finish its burst."""
        self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._awake = False
        while self._crossing:
            mailbox, index, event = self._crossing.popleft()
            mailbox.receive(index, event)


class Sink:
    """The address of one sequence's reader."""

    __slots__ = ("_index", "_mailbox", "_post")

    def __init__(self, post: Post, mailbox: "Mailbox", index: int) -> None:
        self._post = post
        self._mailbox = mailbox
        self._index = index

    def tell(self, message: Event) -> None:
        self._post.put(self._mailbox, self._index, message)


class Mailbox:
    """What happens to the sequences of one HTTP request. Read in the loop's thread only."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._items: list[Item] = []
        self._fold_at = FOLD_AT
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = inf
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._room = inf
        self._full: Callable[[], None] | None = None

    def sink(self, index: int) -> Ref[Event]:
        return Sink(self._post, self, index)

    def receive(self, index: int, event: Event) -> None:
        if self._closed:
            return
        self._items.append((index, event))
        if self._full is not None:
            self._weigh(event)
        if len(self._items) >= self._fold_at:
            self._items = joined(self._items)
            self._fold_at = 2 * len(self._items) + FOLD_AT
        self._wake()

    async def take(self, seconds: float | None = None) -> list[Item]:
        """Everything that has come, consecutive Deltas joined; waits for the first. Empty: nothing came in time."""
        if not self._items:
            loop = asyncio.get_running_loop()
            self._set_deadline(loop, seconds)
            self._waiter = loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
                self._deadline = inf
        items, self._items = self._items, []
        return joined(items) if len(items) > 1 else items

    def bound(self, most: int, full: Callable[[], None]) -> None:
        """From now on call `full`, once, when events of more than `most` bytes have come."""
        self._room, self._full = most, full

    def unbound(self) -> None:
        self._full = None

    def close(self) -> None:
        """Ignore whatever still comes."""
        self._closed = True
        self._items.clear()
        self._drop_timer()

    def _weigh(self, event: Event) -> None:
        self._room -= weight(event)
        if self._room < 0 and (full := self._full) is not None:
            self._full = None
            full()

    def _set_deadline(self, loop: asyncio.AbstractEventLoop, seconds: float | None) -> None:
        if seconds is not None:
            self._deadline = loop.time() + seconds
            if self._timer is None or self._timer.when() > self._deadline:
                self._set_timer(loop)

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        """One timer for many waits: when it fires too early, it is set again. A timer per token would cost as much."""
        self._drop_timer()
        self._timer = loop.call_at(self._deadline, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._deadline <= loop.time():
            self._wake()
        elif self._deadline < inf:
            self._set_timer(loop)

    def _drop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def weight(event: Event) -> int:
    """About how many bytes it makes on the wire."""
    if not isinstance(event, Delta | Prefilled):
        return 0
    likely = LIKELY_BYTES * sum(1 + len(logprob.top) for logprob in event.logprobs)
    return likely + (len(event.text) if isinstance(event, Delta) else 0)


def joined(items: list[Item]) -> list[Item]:
    """Each run of Deltas of a sequence as one, each run of Prefilleds as the last one with what all of them told."""
    runs: list[tuple[int, list[Event]]] = []
    latest: dict[int, list[Event]] = {}
    for index, event in items:
        run = latest.get(index)
        if run is not None and isinstance(event, Delta | Prefilled) and type(event) is type(run[-1]):
            run.append(event)
        else:
            latest[index] = run = [event]
            runs.append((index, run))
    return [(index, _fold(run)) for index, run in runs]


def _fold(run: list[Event]) -> Event:
    first, last = run[0], run[-1]
    if first is last:
        return last
    logprobs = tuple(chain.from_iterable(event.logprobs for event in run if isinstance(event, Delta | Prefilled)))
    if isinstance(last, Prefilled):
        reports = [event.cache for event in run if isinstance(event, Prefilled) and event.cache is not None]
        return Prefilled(last.done, logprobs, reports[-1] if reports else None)
    return Delta("".join(event.text for event in run if isinstance(event, Delta)), logprobs)


class _Reply(Generic[R]):
    """Where one answer is told to."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.future: asyncio.Future[R] = loop.create_future()

    def tell(self, message: R) -> None:
        call_soon(self._loop, self._settle, message)

    def _settle(self, message: R) -> None:
        if not self.future.done():
            self.future.set_result(message)


async def ask(ref: Ref[M], make_message: Callable[[Ref[R]], M], seconds: float) -> R:
    """Tell an actor the message that `make_message(reply_to)` makes, and wait for its answer or raise TimeoutError."""
    reply: _Reply[R] = _Reply(asyncio.get_running_loop())
    ref.tell(make_message(reply))
    return await asyncio.wait_for(reply.future, seconds)


def call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *args: object) -> None:
    """Call in the loop's thread; a loop that is closed has no reader any more, and no sender need know."""
    try:
        loop.call_soon_threadsafe(callback, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise
