"""Handles as files: written off the hot path, found again after a restart, never more than disk and budget allow."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Condition, Thread

from lmx.engine.kv_file import SUFFIX, Header, KvFileError, as_key, digest, read_header, read_payload, write_file
from lmx.engine.kv_folder import Folder
from lmx.engine.prefix import Cold
from lmx.engine.radix import Array, as_array

QUEUE = 512 * 2**20
"""Bytes that may wait for the writer: they are memory."""
PAUSE, LONGEST_PAUSE = 60.0, 3600.0
"""Seconds without the disk after an error; doubled with each one in a row."""


class DiskTier:
    """Used by one thread; a second one writes. `clock` counts seconds as files' times do (time.time).

    All models share `folder` and its `budget`; the oldest files go first, whose ever they are. Other processes may
    use it too. An error never reaches a request: the tier is off for a while, and says so once.
    """

    def __init__(
        self,
        folder: Path,
        kv_key: str,
        budget: int,
        floor: int | None,
        clock: Callable[[], float],
        queue: int = QUEUE,
    ) -> None:
        """`floor`: bytes of the disk that stay free; None = 2 GB or 5 %, whichever is more."""
        self._own = folder / digest(kv_key.encode(), 16)
        self._kv_key = kv_key
        self._clock = clock
        self._queue = queue
        self._folder = Folder(folder, budget, floor, clock)
        self._known: dict[str, int] = {}
        self._done: SimpleQueue[tuple[Array, Cold]] = SimpleQueue()
        self._jobs: list[tuple[str, Array, Sequence[memoryview], int]] = []
        self._changed = Condition()
        self._pending = 0
        self._writer: Thread | None = None
        self._off_until, self._pause = 0.0, PAUSE
        self.declined = 0
        self.errors = 0

    @property
    def entries(self) -> int:
        """Files of this model."""
        return len(self._known)

    @property
    def nbytes(self) -> int:
        """What they take on the disk."""
        with self._changed:
            return sum(self._known.values())

    def scan(self) -> list[tuple[Array, Cold]]:
        """What earlier workers left for this model, the oldest first. Reads headers only, and tidies up."""
        try:
            self._folder.tidy()
            own = [file for file in self._folder.files() if file.path.parent == self._own]
            found = [(file, header) for file in own if (header := self._look(file.path)) is not None]
        except OSError as error:
            self._fail("scan", error)
            return []
        with self._changed:
            self._known = {file.path.stem: file.size for file, _ in found}
        return [(header.tokens, Cold(file.path.stem, len(header.tokens))) for file, header in found]

    def wants(self, tokens: Sequence[int] | Array, nbytes: int) -> bool:
        """Whether `write` would take so much now: to be asked before memory is copied."""
        with self._changed:
            known = as_key(as_array(tokens)) in self._known
            room = not self._pending or self._pending + nbytes <= self._queue
        return room and not known and nbytes <= self._folder.budget and self._clock() >= self._off_until

    def write(self, tokens: Sequence[int] | Array, chunks: Sequence[memoryview]) -> bool:
        """Hand it to the writer, which keeps `chunks` until it is done; False = declined, and counted."""
        known, size = as_array(tokens).copy(), sum(chunk.nbytes for chunk in chunks)
        if not size or not self.wants(known, size):
            self.declined += 1
            return False
        with self._changed:
            self._jobs.append((as_key(known), known, chunks, size))
            self._pending += size
            self._changed.notify_all()
        if self._writer is None:
            self._writer = Thread(target=self._write_all, name="kv-writer", daemon=True)
            self._writer.start()
        return True

    def written(self) -> list[tuple[Array, Cold]]:
        """What has become a file since the last time."""
        done = []
        try:
            while True:
                done.append(self._done.get_nowait())
        except Empty:
            return done

    def read(self, cold: Cold) -> memoryview | None:
        """The payload, checked; None when it is gone or no longer what it was."""
        path = self._path(cold.key)
        try:
            payload = read_payload(path, self._kv_key)
            now = self._clock()
            os.utime(path, (now, now))
        except FileNotFoundError:
            self._lost(cold.key)
            return None
        except (OSError, KvFileError) as error:
            sys.stderr.write(f"{path} cannot be used ({error}): deleted, and its prompt is computed again.\n")
            self.errors += 1
            self.remove(cold)
            return None
        return payload

    def remove(self, cold: Cold) -> None:
        """Delete it: something longer does the same."""
        self._lost(cold.key)
        try:
            self._path(cold.key).unlink(missing_ok=True)
        except OSError as error:
            self._fail("remove", error)

    def flush(self, seconds: float) -> bool:
        """Wait until all is written, at most so long; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs, seconds)

    # --- files -------------------------------------------------------------------------------------------------------

    def _path(self, key: str) -> Path:
        return self._own / (key + SUFFIX)

    def _lost(self, key: str) -> None:
        with self._changed:
            self._known.pop(key, None)

    def _look(self, path: Path) -> Header | None:
        """Its header; None, and it is deleted, when it is damaged or of another model."""
        try:
            header = read_header(path, self._kv_key)
        except FileNotFoundError:
            return None
        except KvFileError as error:
            sys.stderr.write(f"{path} cannot be used ({error}): deleted.\n")
            path.unlink(missing_ok=True)
            return None
        return header

    # --- the writer --------------------------------------------------------------------------------------------------

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs)
                key, tokens, chunks, size = self._jobs[0]
            self._write(key, tokens, chunks, size)
            del chunks
            with self._changed:
                self._jobs.pop(0)
                self._pending -= size
                self._changed.notify_all()

    def _write(self, key: str, tokens: Array, chunks: Sequence[memoryview], size: int) -> None:
        if self._clock() < self._off_until:
            self.declined += 1
            return
        try:
            header = Header(self._kv_key, tokens, size)
            deleted = self._folder.make_room(header.nbytes + size)
            if deleted is None:
                self.declined += 1
                return
            write_file(self._path(key), header, chunks, self._clock())
        except OSError as error:
            self._fail("write", error)
            return
        self._pause = PAUSE
        with self._changed:
            for path in deleted:
                if path.parent == self._own:
                    self._known.pop(path.stem, None)
            self._known[key] = header.nbytes + size
        self._done.put((tokens, Cold(key, len(tokens))))

    def _fail(self, doing: str, error: OSError) -> None:
        self.errors += 1
        self._off_until = self._clock() + self._pause
        sys.stderr.write(f"The disk cache is off for {self._pause:.0f} s: {doing} failed ({error}).\n")
        self._pause = min(LONGEST_PAUSE, 2 * self._pause)
