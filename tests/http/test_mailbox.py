"""Crossing from the actors' threads to the event loop."""

import asyncio
import threading
import time
from typing import Any

import pytest

from lmx.actors.messages.client import Accepted, Delta, Finished, Prefilled
from lmx.http.mailbox import FOLD_AT, Mailbox, Post, ask, joined
from lmx.machines.types import CacheReport, TokenLogprob, Usage

END = Finished("stop", Usage(1, 1))
A, B = TokenLogprob(1, b"a", -1.0), TokenLogprob(2, b"b", -2.0)
REPORT = CacheReport(0, 2, "first_use")


def test_only_runs_of_one_sequence_are_joined() -> None:
    """Deltas and Prefilleds are joined with all that they told, per sequence and never across another event of it."""
    items: Any = [
        (0, Accepted(1)),
        (0, Prefilled(1, (A,), REPORT)),
        (1, Delta("x")),
        (0, Prefilled(2, (B,))),
        (0, Delta("a", (A,))),
        (1, Delta("y")),
        (0, Delta("b", (B, A))),
        (0, END),
    ]
    assert joined(items) == [
        (0, Accepted(1)),
        (0, Prefilled(2, (A, B), REPORT)),
        (1, Delta("xy")),
        (0, Delta("ab", (A, B, A))),
        (0, END),
    ]


async def test_a_slow_reader_costs_bounded_memory_and_loses_nothing() -> None:
    """Whatever piles up is joined; the text is whole."""
    mailbox = Mailbox(Post(asyncio.get_running_loop()))
    for number in range(10_000):
        mailbox.receive(0, Delta(f"{number},"))
    assert len(mailbox._items) <= 2 * FOLD_AT
    ((_, delta),) = await mailbox.take()
    assert delta == Delta("".join(f"{number}," for number in range(10_000)))


async def test_a_bound_is_told_once() -> None:
    """H16: while a write waits, what comes is weighed with its log-probabilities; before and after it is not."""
    told: list[str] = []
    mailbox = Mailbox(Post(asyncio.get_running_loop()))
    mailbox.receive(0, Delta("x" * 1000))
    mailbox.bound(500, lambda: told.append("full"))
    mailbox.receive(0, Delta("x" * 400))
    assert told == []
    mailbox.receive(0, Delta("", (A, B)))
    mailbox.receive(0, Delta("x" * 1000))
    assert told == ["full"]
    mailbox.bound(500, lambda: told.append("again"))
    mailbox.unbound()
    mailbox.receive(0, Delta("x" * 1000))
    assert told == ["full"]


async def test_a_burst_for_many_mailboxes_wakes_the_loop_once() -> None:
    """However many streams get a token in one step, the sender pays for one wake-up."""
    loop = asyncio.get_running_loop()
    post = Post(loop)
    mailboxes = [Mailbox(post) for _ in range(16)]
    wakes = 0
    original = loop.call_soon_threadsafe

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal wakes
        wakes += 1
        return original(*args, **kwargs)

    loop.call_soon_threadsafe = counted  # type: ignore[method-assign, assignment]
    for index, mailbox in enumerate(mailboxes):
        mailbox.sink(index).tell(Delta("x"))
    assert [await mailbox.take(5) for mailbox in mailboxes] == [[(index, Delta("x"))] for index in range(16)]
    assert wakes == 1


async def test_nothing_is_lost_between_threads() -> None:
    """Four threads tell as fast as they can: every event arrives, in its sender's order."""
    mailbox = Mailbox(Post(asyncio.get_running_loop()))

    def send(index: int) -> None:
        sink = mailbox.sink(index)
        for number in range(5000):
            sink.tell(Delta(f"{number},"))
        sink.tell(END)

    threads = [threading.Thread(target=send, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    texts, ended = [""] * 4, 0
    while ended < 4:
        for index, event in await mailbox.take(10):
            texts[index] += event.text if isinstance(event, Delta) else ""
            ended += event is END
    assert texts == ["".join(f"{number}," for number in range(5000))] * 4
    for thread in threads:
        thread.join()


async def test_take_gives_up_in_time_and_works_again() -> None:
    """An empty answer means silence; waits of different lengths, one after the other, each keep their own deadline."""
    mailbox = Mailbox(Post(asyncio.get_running_loop()))
    for seconds in (0.05, 0.01, 0.1):
        started = time.monotonic()
        assert await mailbox.take(seconds) == []
        assert seconds * 0.9 <= time.monotonic() - started < 5
    mailbox.sink(0).tell(END)
    assert await mailbox.take(5) == [(0, END)]


async def test_a_closed_mailbox_ignores_what_comes() -> None:
    mailbox = Mailbox(Post(asyncio.get_running_loop()))
    mailbox.close()
    mailbox.receive(0, END)
    assert mailbox._items == []


def test_telling_after_the_loop_is_closed_hurts_nobody() -> None:
    """An actor that outlives the server tells its last words to nobody."""
    loop = asyncio.new_event_loop()
    sink = Mailbox(Post(loop)).sink(0)
    loop.close()
    sink.tell(END)


async def test_ask_waits_for_one_answer_or_the_timeout() -> None:
    class Actor:
        def tell(self, message: Any) -> None:
            if message is not None:
                threading.Thread(target=message.tell, args=(42,)).start()

    assert await ask(Actor(), lambda reply_to: reply_to, 5) == 42
    with pytest.raises(TimeoutError):
        await ask(Actor(), lambda _: None, 0.01)
