"""Who gets a slot next: the queue, those who wait for what another one is reading, and who has to step back."""

from collections.abc import Callable, Collection, Iterator

from lmx.backends.base import Backend, Info
from lmx.engine.job import Job
from lmx.engine.known import KnownPrompts
from lmx.engine.text import shared
from lmx.engine.waiting import Waiting

WORTH_WAITING = 32
"""Tokens that another sequence must spare a waiting one."""
PATIENCE = 2
"""A waiting sequence does not wait for more than so many tokens of another's prompt for each one that it is spared."""
ALIKE = 64
"""Prompts that begin with so many equal tokens may want the same known beginning."""


class Schedule:
    """Holds every job that has no slot."""

    def __init__(self, backend: Backend, info: Info, known: KnownPrompts, clock: Callable[[], float]) -> None:
        self._backend = backend
        self._info = info
        self._known = known
        self._queue: Waiting[Job] = Waiting(clock)
        self._followers: dict[int, list[Job]] = {}
        """Who waits for what, by the sequence that is reading it."""

    @property
    def waiting(self) -> bool:
        return bool(len(self._queue)) or bool(self._followers)

    def add(self, job: Job) -> None:
        self._queue.add(self._waiting_again(job))

    def put_back(self, job: Job) -> None:
        """It gave up its slot."""
        self._queue.put_back(self._waiting_again(job))

    def _waiting_again(self, job: Job) -> Job:
        job.phase, job.done = "waiting", 0 if job.rereads else self._known.reusable(job.prompt)
        return job

    def forget(self, seq: int) -> None:
        """Unknown ids are ignored."""
        self._queue.remove(seq)
        for leader, followers in list(self._followers.items()):
            left = [job for job in followers if job.seq != seq]
            self._followers[leader] = left
            if not left:
                del self._followers[leader]

    def next(self, running: Collection[Job], preempt: Callable[[Job], None]) -> Job | None:
        """Who is to be started now; `preempt` is called with who has to make room first."""
        while (job := self._queue.next(_remaining)) is not None:
            job.done = 0 if job.rereads else self._known.reusable(job.prompt)
            if (leader := self._leader(job, running)) is not None:
                self._queue.remove(job.seq)
                self._followers.setdefault(leader.seq, []).append(job)
                continue
            reading = [other for other in running if other.phase == "reading"]
            if self._backend.free_slots() and len(reading) < self._info.prompts:
                self._queue.remove(job.seq)
                return job
            victim = self._victim(job, reading)
            if victim is None:
                return None
            preempt(victim)
        return None

    def _victim(self, job: Job, reading: Collection[Job]) -> Job | None:
        """Who has much more to read than `job`, and can go on later where it was."""
        if self._info.prefix == "none":
            return None
        able = [other for other in reading if other.begun and not other.rereads and self._known.fits(other.done)]
        others = ((other, other.remaining) for other in able)
        return self._queue.should_preempt(others, job.remaining, batch=job.generation.priority == "batch")

    def alone(self, job: Job) -> bool:
        """Nobody who waits begins as `job` does."""
        return not any(other.prompt[:ALIKE] == job.prompt[:ALIKE] for other in self._all())

    def followed(self, job: Job) -> bool:
        return job.seq in self._followers

    def release_followers(self, job: Job) -> None:
        """`job` has read its prompt, or never will."""
        for follower in self._followers.pop(job.seq, ()):
            self.add(follower)

    def lender(self, job: Job, running: Collection[Job]) -> Job | None:
        """Whose running KV holds much more of the prompt than is known; only where any part of it can be used."""
        if self._info.prefix != "trim" or job.rereads:
            return None
        spared = self._spares(job)
        decoding = (other for other in running if other.phase == "decoding" and self._known.fits(len(other.tokens)))
        best = max(decoding, key=spared, default=None)
        return best if best is not None and spared(best) >= WORTH_WAITING else None

    def _leader(self, job: Job, running: Collection[Job]) -> Job | None:
        """Who is reading something just now that `job` would have to read too."""
        if self._info.prefix == "none" or job.rereads:
            return None
        spared = self._spares(job)
        reading = (other for other in running if other.phase == "reading" and self._known.fits(len(other.prompt)))
        near = [other for other in reading if other.remaining <= PATIENCE * spared(other)]
        best = max(near, key=spared, default=None)
        return best if best is not None and spared(best) >= WORTH_WAITING else None

    def _spares(self, job: Job) -> Callable[[Job], int]:
        """How many tokens another job would spare this one, beyond what is known anyway."""

        def spared(other: Job) -> int:
            if other.seq not in job.common:
                job.common[other.seq] = min(shared(other.prompt, job.prompt), len(job.prompt) - 1)
            common = job.common[other.seq]
            if self._info.prefix == "snapshot":
                common = max((place for place in other.ready.checkpoints if place <= common), default=0)
            return common - job.done

        return spared

    def _all(self) -> Iterator[Job]:
        yield from self._queue
        for followers in self._followers.values():
            yield from followers


def _remaining(job: Job) -> int:
    return job.remaining
