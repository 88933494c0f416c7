"""Who gets a slot next: the queue, those who wait for what another one is reading, and who has to step back."""

from collections.abc import Callable, Collection, Iterator

from lmx.backends.base import Backend, Info
from lmx.engine.known import KnownPrompts
from lmx.engine.sequence import Sequence
from lmx.engine.text import shared
from lmx.engine.waiting import Waiting

WORTH_WAITING = 32
"""Tokens that another sequence must spare a waiting one."""
PATIENCE = 2
"""A waiting sequence does not wait for more than so many tokens of another's prompt for each one that it is spared."""
ALIKE = 64
"""Prompts that begin with so many equal tokens may want the same known beginning."""


class Schedule:
    """Holds every sequence that has no slot."""

    def __init__(self, backend: Backend, info: Info, known: KnownPrompts, clock: Callable[[], float]) -> None:
        self._backend = backend
        self._info = info
        self._known = known
        self._queue: Waiting[Sequence] = Waiting(clock)
        self._followers: dict[int, list[Sequence]] = {}
        """Who waits for what, by the sequence that is reading it."""

    @property
    def waiting(self) -> bool:
        return bool(len(self._queue)) or bool(self._followers)

    def add(self, sequence: Sequence) -> None:
        self._queue.add(self._waiting_again(sequence))

    def put_back(self, sequence: Sequence) -> None:
        """It gave up its slot."""
        self._queue.put_back(self._waiting_again(sequence))

    def _waiting_again(self, sequence: Sequence) -> Sequence:
        sequence.phase, sequence.done = "waiting", 0 if sequence.rereads else self._known.reusable(sequence.array)
        return sequence

    def forget(self, seq: int) -> None:
        """Unknown ids are ignored."""
        self._queue.remove(seq)
        for leader, followers in list(self._followers.items()):
            left = [sequence for sequence in followers if sequence.seq != seq]
            self._followers[leader] = left
            if not left:
                del self._followers[leader]

    def next(self, running: Collection[Sequence], preempt: Callable[[Sequence], None]) -> Sequence | None:
        """Who is to be started now; `preempt` is called with who has to make room first."""
        while (sequence := self._queue.next(_remaining)) is not None:
            sequence.done = 0 if sequence.rereads else self._known.reusable(sequence.array)
            if (leader := self._leader(sequence, running)) is not None:
                self._queue.remove(sequence.seq)
                self._followers.setdefault(leader.seq, []).append(sequence)
                continue
            reading = [other for other in running if other.phase == "reading"]
            if self._backend.free_slots() and len(reading) < self._info.prompts:
                self._queue.remove(sequence.seq)
                return sequence
            victim = self._victim(sequence, reading)
            if victim is None:
                return None
            preempt(victim)
        return None

    def _victim(self, sequence: Sequence, reading: Collection[Sequence]) -> Sequence | None:
        """Who has much more to read than `sequence`, and can go on later where it was."""
        if self._info.prefix == "none":
            return None
        able = [other for other in reading if other.begun and not other.rereads and self._known.fits(other.done)]
        others = ((other, other.remaining) for other in able)
        return self._queue.should_preempt(others, sequence.remaining, batch=sequence.generation.priority == "batch")

    def alone(self, sequence: Sequence) -> bool:
        """Nobody who waits begins as `sequence` does."""
        return not any(other.prompt[:ALIKE] == sequence.prompt[:ALIKE] for other in self._all())

    def followed(self, sequence: Sequence) -> bool:
        return sequence.seq in self._followers

    def release_followers(self, sequence: Sequence) -> None:
        """`sequence` has read its prompt, or never will."""
        for follower in self._followers.pop(sequence.seq, ()):
            self.add(follower)

    def lender(self, sequence: Sequence, running: Collection[Sequence]) -> Sequence | None:
        """Whose running KV holds much more of the prompt than is known; only where any part of it can be used."""
        if self._info.prefix != "trim" or sequence.rereads:
            return None
        spared = self._spares(sequence)
        decoding = (other for other in running if other.phase == "decoding" and self._known.fits(len(other.tokens)))
        best = max(decoding, key=spared, default=None)
        return best if best is not None and spared(best) >= WORTH_WAITING else None

    def _leader(self, sequence: Sequence, running: Collection[Sequence]) -> Sequence | None:
        """Who is reading something just now that `sequence` would have to read too."""
        if self._info.prefix == "none" or sequence.rereads:
            return None
        spared = self._spares(sequence)
        reading = (other for other in running if other.phase == "reading" and self._known.fits(len(other.prompt)))
        near = [other for other in reading if other.remaining <= PATIENCE * spared(other)]
        best = max(near, key=spared, default=None)
        return best if best is not None and spared(best) >= WORTH_WAITING else None

    def _spares(self, sequence: Sequence) -> Callable[[Sequence], int]:
        """How many tokens another sequence would spare this one, beyond what is known anyway."""

        def spared(other: Sequence) -> int:
            if other.seq not in sequence.common:
                sequence.common[other.seq] = min(shared(other.prompt, sequence.prompt), len(sequence.prompt) - 1)
            common = sequence.common[other.seq]
            if self._info.prefix == "snapshot":
                common = max((place for place in other.ready.checkpoints if place <= common), default=0)
            return common - sequence.done

        return spared

    def _all(self) -> Iterator[Sequence]:
        yield from self._queue
        for followers in self._followers.values():
            yield from followers


def _remaining(sequence: Sequence) -> int:
    return sequence.remaining
