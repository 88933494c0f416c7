"""One model as admission sees it: who waits for it, how much it has been given, how much more it takes."""

from lmx.actors import metrics
from lmx.actors.messages import model
from lmx.actors.messages.ref import Ref
from lmx.machines.concurrency import Concurrency
from lmx.machines.queue import WEIGHTS, Queue

SMOOTHING = 0.1
"""Weight of the newest sequence in the running estimate of how long one takes."""


class Lane:
    def __init__(self, name: str, ref: Ref[model.Message] | None) -> None:
        """Without a `ref` it keeps what waits until that is moved to another lane."""
        self.name = name
        self.ref = ref
        self.queue = Queue()
        self.concurrency: Concurrency | None = None
        """None while the model does not answer."""
        self.opened = 0.0
        """When it last began to answer."""
        self.running = 0
        """Sequences that the model has been given and that have not ended."""
        self.seconds_each = 1.0
        self._queued = [(priority, metrics.QUEUED.labels(name, priority)) for priority in WEIGHTS]
        self._limit = metrics.CONCURRENCY.labels(name)
        self._seconds = metrics.QUEUE_SECONDS.labels(name)
        self._shown: tuple[int, ...] = ()
        self.show()

    @property
    def limit(self) -> int:
        """A model that does not answer is given one sequence, so that it knows that it is wanted."""
        if self.ref is None:
            return 0
        return self.concurrency.limit if self.concurrency is not None else 1

    @property
    def has_room(self) -> bool:
        return self.running < self.limit

    @property
    def idle(self) -> bool:
        """Nobody wants the model."""
        return not self.running and not len(self.queue)

    def open(self, slots: int, now: float, *, pressed: bool) -> None:
        self.concurrency, self.opened = Concurrency(slots), now
        self.concurrency.pressed = pressed

    def close(self) -> None:
        self.concurrency = None

    def has_waited(self, seconds: float, now: float) -> float:
        """What counts of a wait: no longer than the model answers."""
        return min(seconds, now - self.opened) if self.concurrency is not None else 0.0

    def waited(self, seconds: float) -> None:
        """A sequence waited here for so long before it was given to the model."""
        self._seconds.observe(seconds)

    def took(self, seconds: float) -> None:
        """A sequence had to wait in the model, and was answered, for so long."""
        self.seconds_each += SMOOTHING * (seconds - self.seconds_each)

    def lost(self, outcome: str) -> None:
        """Count a sequence that never reached the model."""
        metrics.REQUESTS.labels(self.name, outcome).inc()

    def show(self) -> None:
        """Set what Prometheus sees, where it has changed."""
        now = (*(self.queue.requests(priority) for priority, _ in self._queued), self.limit)
        if now != self._shown:
            self._shown = now
            for (_, gauge), requests in zip(self._queued, now, strict=False):
                gauge.set(requests)
            self._limit.set(self.limit)
