"""The engine thread after the load: takes in what has come, computes a step, tells what came of it."""

import queue
import sys
import time
from typing import NoReturn

from lmx.backends.base import Backend, EngineFatal
from lmx.engine.beat import TOKEN_SECONDS, UNMEASURED, Work, patience
from lmx.engine.intake import Ready
from lmx.engine.jobs import Job, Jobs
from lmx.engine.loop import Engine
from lmx.engine.telemetry import Telemetry
from lmx.engine.wire import Channel
from lmx.machines import frames

SETTLED_SECONDS = 10.0
"""Known prompts are written to disk when nothing has run for so long: a chat in progress would be at every turn."""
BETWEEN_SAVES = 0.05
SAVE_SECONDS = 3.0
"""What writing them may take when the worker is told to end."""

PACE_SECONDS = 0.05
"""Tokens of steps shorter than this are told together, but for a sequence's first and last ones."""

Command = (
    frames.Load | frames.WarmUp | frames.Cancel | frames.Probe | frames.TrimCaches | frames.Shutdown
    | Ready | Job | frames.Rendered | frames.Rejected
)  # fmt: skip
Inbox = queue.SimpleQueue[Command]


class Service:
    def __init__(
        self,
        channel: Channel[frames.Command, frames.Report],
        inbox: Inbox,
        backend: Backend,
        engine: Engine,
        work: Work,
    ) -> None:
        self._channel = channel
        self._inbox = inbox
        self._work = work
        self._backend = backend
        self._engine = engine
        self._jobs = Jobs(backend)
        self._telemetry = Telemetry(backend.stats, engine.known.kept, engine)
        self._untold: tuple[frames.SeqStep, ...] = ()
        self._told_at = 0.0
        self._seen = 0
        """The highest id that came out of the intake; ids arrive in order."""
        self._cancelled_early: set[int] = set()

    def run(self) -> NoReturn:
        """Until a Shutdown comes."""
        while True:
            self._obey_all()
            self._work.begin(patience(self._engine.longest_step, disk=self._engine.known.on_disk))
            self._tell(self._engine.step())
            self._compute_jobs()
            self._report()

    def _compute_jobs(self) -> None:
        if not self._jobs.idle:
            self._work.begin(max(UNMEASURED, TOKEN_SECONDS * self._jobs.turn_tokens))
        if (embedded := self._jobs.step()) is not None:
            self._channel.send(embedded)

    def _tell(self, step: frames.Step) -> None:
        """Send what the step did; when steps are short, together with what the next ones do.

        Each frame wakes up the main process and its clients, on the cores that compute the next step.
        """
        self._untold += step.seqs
        now = time.monotonic()
        if self._untold and (self._engine.urgent or now >= self._told_at + PACE_SECONDS):
            self._channel.send(frames.Step(step.number, self._untold))
            self._untold, self._told_at = (), now

    @property
    def _idle(self) -> bool:
        return self._engine.idle and self._jobs.idle

    def _obey_all(self) -> None:
        """Take in what has come; wait for something while there is nothing to compute."""
        while self._idle or not self._inbox.empty():
            busy = not self._idle
            command = self._next()
            self._work.begin(UNMEASURED)
            self._obey(command)
            if busy and self._idle:
                self._report()

    def _report(self) -> None:
        """Numbers once a second; and when the work is done, what is left of it."""
        now = time.monotonic()
        if self._idle:
            self._backend.trim()
            self._channel.send(frames.Idled(self._backend.stats().kv_used))
        if self._idle or self._telemetry.due(now):
            self._channel.send(self._telemetry.read(now))

    def _next(self) -> Command:
        """What has come. While nothing does, an idle engine writes what it knows to the disk, a prompt at a time."""
        pause = SETTLED_SECONDS
        while self._idle and self._engine.known.unsaved:
            self._work.rest()
            try:
                return self._inbox.get(timeout=pause)
            except queue.Empty:
                self._work.begin(UNMEASURED)
                self._engine.known.save_one()
                pause = BETWEEN_SAVES
        if self._idle:
            self._work.rest()
        return self._inbox.get()

    def _obey(self, command: Command) -> None:
        match command:
            case Ready(seq):
                if self._arrived(seq):
                    self._channel.send(command.accepted())
                    self._engine.insert(command)
            case Job(job):
                if self._arrived(job):
                    self._jobs.add(command)
            case frames.Rejected(seq) | frames.Rendered(seq):
                if self._arrived(seq):
                    self._channel.send(command)
            case frames.Cancel(seq):
                self._cancel(seq)
            case frames.WarmUp():
                self._warm_up()
            case frames.Probe(number):
                self._channel.send(frames.Probed(number))
            case frames.TrimCaches():
                self._engine.known.trim()
                self._backend.trim()
                self._channel.send(self._telemetry.read(time.monotonic()))
            case frames.Shutdown():
                self._engine.known.close(SAVE_SECONDS)
                self._backend.close()
                sys.exit(0)
            case _:
                raise TypeError(f"unexpected command {command!r}")

    def _arrived(self, seq: int) -> bool:
        """Note that something came out of the intake; False when it was cancelled on its way."""
        self._seen = max(self._seen, seq)
        early = seq in self._cancelled_early
        self._cancelled_early.discard(seq)
        return not early

    def _cancel(self, seq: int) -> None:
        if seq > self._seen:
            self._cancelled_early.add(seq)
        else:
            self._untold = tuple(did for did in self._untold if did.seq != seq)
            self._engine.cancel(seq)
            self._jobs.cancel(seq)

    def _warm_up(self) -> None:
        try:
            self._backend.warm_up()
        except EngineFatal:
            raise
        except RuntimeError as error:
            self._channel.send(frames.Warmed(str(error)))
        else:
            self._channel.send(frames.Warmed())
