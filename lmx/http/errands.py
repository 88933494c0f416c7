"""Questions to a disk that may be dead. The event loop's own threads are few, and for what ends by itself: a disk that
hangs would take them all, and then no large answer could be packed and no name resolved."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

from lmx.http.errors import ApiError

P = ParamSpec("P")
R = TypeVar("R")

MOST = 8
"""At the same time: a dead disk keeps so many threads, and no more."""
SECONDS = 10.0
"""For one answer."""
SILENT = "The disk does not answer."

_room = threading.BoundedSemaphore(MOST)


async def run(work: Callable[P, R], *args: P.args, **named: P.kwargs) -> R:
    """What `work` returns, or the OSError or ApiError that it raises; TimeoutError when no answer comes in time."""
    if not _room.acquire(blocking=False):
        raise TimeoutError(SILENT)
    answer: Future[R] = Future()

    def go() -> None:
        try:
            if answer.set_running_or_notify_cancel():
                answer.set_result(work(*args, **named))
        except (OSError, ApiError) as error:  # anything else is a fault, told by its thread: no answer comes then
            answer.set_exception(error)
        finally:
            _room.release()

    _start(go)
    try:
        return await asyncio.wait_for(asyncio.wrap_future(answer), SECONDS)
    except TimeoutError as error:
        raise TimeoutError(SILENT) from error


def _start(go: Callable[[], None]) -> None:
    """On a daemon: the end of the process does not wait for a disk."""
    try:
        threading.Thread(target=go, name="errand", daemon=True).start()
    except RuntimeError as error:
        _room.release()
        raise TimeoutError("There is no thread to ask the disk with.") from error
