"""Keeps responses on a thread of its own: the event loop never waits for the disk."""

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import structlog

from lmx.config import Config
from lmx.database import WrongVersionError, damaged, move_aside
from lmx.http.responses.shelf import ShelfError, Stored
from lmx.responses_file import NAME, Bounds, ResponsesFile, TooLargeError

T = TypeVar("T")

WAITING = 1000
"""Jobs that may wait for the disk; more are refused."""
SECONDS = 5.0
"""How long an answer is waited for."""
SILENCE = 60.0
"""Seconds between two lines of the log about the same trouble."""


class ResponseStore:
    """A Shelf (lmx/http/responses/shelf.py) on disk. A file that is damaged is moved aside, and a new one begun."""

    def __init__(self, path: Path, bounds: Bounds, waiting: int = WAITING, seconds: float = SECONDS) -> None:
        self.path = path
        self._bounds = bounds
        self._seconds = seconds
        self._jobs: queue.Queue[tuple[Callable[[ResponsesFile], Any], Future[Any]] | None] = queue.Queue(waiting)
        self._thread = threading.Thread(target=self._live, name="responses", daemon=True)
        self._file: ResponsesFile | None = None
        self._unwritten = 0
        """Bytes that wait for the disk."""
        self._lock = threading.Lock()
        self._complained = -SILENCE

    def start(self) -> None:
        """Open the file, on the thread; what is wrong with it is logged."""
        self._thread.start()
        self._submit(lambda _: None)

    def stop(self, seconds: float = 5.0) -> bool:
        """Write what waits and close the file; False when that took too long."""
        try:
            self._jobs.put(None, timeout=seconds)
        except queue.Full:
            return False
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def keep(self, stored: Stored) -> None:
        with self._lock:
            self._unwritten += stored.size
            too_much = self._unwritten > self._bounds.size + stored.size
        if too_much:
            self._kept(stored, ShelfError("the disk is too slow"))
        else:
            future = self._submit(lambda file: file.keep(stored))
            future.add_done_callback(lambda done: self._kept(stored, done.exception()))

    async def find(self, owner: str, id: str) -> Stored | None:
        return await self._ask(lambda file: file.find(owner, id))

    async def chain(self, owner: str, id: str) -> Sequence[Stored]:
        return await self._ask(lambda file: file.chain(owner, id))

    async def with_item(self, owner: str, item: str) -> Stored | None:
        return await self._ask(lambda file: file.with_item(owner, item))

    async def drop(self, owner: str, id: str) -> bool:
        return await self._ask(lambda file: file.drop(owner, id))

    async def _ask(self, work: Callable[[ResponsesFile], T]) -> T:
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._submit(work)), self._seconds)
        except TimeoutError as error:
            raise ShelfError(f"the disk did not answer within {self._seconds:g} s.") from error

    def _submit(self, work: Callable[[ResponsesFile], T]) -> Future[T]:
        future: Future[T] = Future()
        try:
            self._jobs.put_nowait((work, future))
        except queue.Full:
            future.set_exception(ShelfError("too much waits for the disk."))
        return future

    def _kept(self, stored: Stored, error: BaseException | None) -> None:
        with self._lock:
            self._unwritten -= stored.size
        if error is not None:
            structlog.get_logger().warning("response_not_stored", id=stored.id, error=str(error))

    def _live(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, future = job
            if future.set_running_or_notify_cancel():
                self._do(work, future)
        if self._file is not None:
            self._file.close()

    def _do(self, work: Callable[[ResponsesFile], T], future: Future[T], *, again: bool = True) -> None:
        try:
            if self._file is None:
                self._file = ResponsesFile(self.path, self._bounds)
            result = work(self._file)
        except TooLargeError as error:
            future.set_exception(error)
        except (sqlite3.Error, OSError, WrongVersionError) as error:
            self._failed(error)
            if again and damaged(error):
                self._do(work, future, again=False)  # with a new file
            else:
                future.set_exception(ShelfError(f"{error}."))
        else:
            future.set_result(result)

    def _failed(self, error: Exception) -> None:
        """The next job opens the file anew."""
        if self._file is not None:
            with suppress(sqlite3.Error):
                self._file.close()
            self._file = None
        text = f"The stored responses {self.path} cannot be used: {error}."
        if damaged(error):
            with suppress(OSError):  # then the next job fails in the same way, and tries again
                text += f" They were moved to {move_aside(self.path)}."
        if (now := time.monotonic()) - self._complained >= SILENCE or damaged(error):
            self._complained = now
            structlog.get_logger().error("responses_failed", error=text)


def opened(config: Config) -> ResponseStore | None:
    """The store of a daemon that starts now; None = none is wanted."""
    wanted = config.responses
    if not wanted.count or not wanted.bytes:
        return None
    store = ResponseStore(Path(config.state_dir) / NAME, Bounds(wanted.count, wanted.bytes))
    store.start()
    return store
