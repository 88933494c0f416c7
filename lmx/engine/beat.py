"""The worker's sign of life: a thread that tells once a second how far the engine has come, whatever that is doing."""

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from lmx.engine.wire import Channel
from lmx.machines import frames

SECONDS = 1.0
"""Between two beats."""
UNMEASURED = 120.0
"""Seconds that work may take of which nothing is known yet: a load, a warm-up, what is written to disk."""
TOKEN_SECONDS = 0.2
"""That a token may take in work that is not measured."""
LEAST, LEAST_WITH_DISK = 10.0, 60.0
"""Seconds that any step may take; with known prompts on a disk, one may have to be read from it."""
MARGIN = 10.0
"""Times what a step was predicted to take, until it counts as stuck."""
NANO = 1e-9


class Work:
    """What the engine thread is at: written by it, read by the thread that beats, without a lock between them."""

    def __init__(self) -> None:
        self.steps = 0
        """Grows whenever a piece of work begins or ends."""
        self.busy = True
        self.patience = UNMEASURED

    def begin(self, patience: float) -> None:
        """A piece of work that may take so many seconds."""
        self.patience = patience
        self.steps += 1
        self.busy = True

    def rest(self) -> None:
        """Wait for somebody to want something."""
        self.busy = False
        self.steps += 1


def patience(predicted: float | None, *, disk: bool) -> float:
    """Seconds for a step that is predicted to take so many at most; None = nothing was measured yet."""
    if predicted is None:
        return UNMEASURED
    return max(LEAST_WITH_DISK if disk else LEAST, MARGIN * predicted)


def queueing() -> dict[str, float]:
    """Seconds that each thread has waited for a CPU since its start, by its id; empty where nobody tells."""
    try:
        return {entry.name: _waited(Path(entry.path)) for entry in os.scandir("/proc/self/task")}
    except OSError:
        return {}


def _waited(thread: Path) -> float:
    """Raises OSError when the thread is gone, or the kernel does not count this."""
    return int((thread / "schedstat").read_text().split()[1]) * NANO


class Heart:
    """Beats until the process ends, and ends it when the main process is gone."""

    def __init__(
        self,
        channel: Channel[frames.Command, frames.Report],
        work: Work,
        queueing: Callable[[], Mapping[str, float]] = queueing,
        seconds: float = SECONDS,
    ) -> None:
        self._channel = channel
        self._work = work
        self._queueing = queueing
        self._seconds = seconds
        self._parent = os.getppid()
        self._latest: tuple[int, Mapping[str, float]] = (-1, {})
        self._never = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="heart", daemon=True).start()

    def _run(self) -> None:
        while os.getppid() == self._parent:
            try:
                self._channel.offer(self.beat())
            except OSError:
                return  # the reader thread sees that end too, and ends the process
            self._never.wait(self._seconds)
        os._exit(0)

    def beat(self) -> frames.Beat:
        """What the present step has waited for a CPU is added to what it may take: that is no fault of the engine's."""
        steps, known = self._work.steps, self._latest[1]
        if steps != self._latest[0]:
            self._latest = steps, {}
            return frames.Beat(steps, self._work.busy, self._work.patience)
        now = self._queueing()
        self._latest = steps, known or now
        lost = max((seconds - known[thread] for thread, seconds in now.items() if thread in known), default=0.0)
        return frames.Beat(steps, self._work.busy, self._work.patience + lost)
