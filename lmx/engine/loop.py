"""One engine step: schedule, run, postprocess. Single-threaded and without I/O."""

from collections.abc import Callable
from dataclasses import dataclass, field

from lmx.backends.base import Backend, Event, Info, Prefilled, SeqError, SeqSpec, Snapshot, Token
from lmx.engine.chunks import ChunkController
from lmx.engine.intake import Ready
from lmx.engine.job import Job
from lmx.engine.known import KnownPrompts
from lmx.engine.schedule import Schedule
from lmx.machines.frames import Finish, SeqStep, Step
from lmx.machines.types import CacheReport, TokenLogprob


@dataclass
class Report:
    """What a step did for one sequence, while the step's events are gone through."""

    job: Job
    text: list[str] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    prefilled: int = 0
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    cache: CacheReport | None = None
    cached: int = 0
    finish: Finish | None = None

    @property
    def urgent(self) -> bool:
        return bool(self.prefilled) or self.finish is not None or len(self.ids) == len(self.job.written)

    def told(self) -> SeqStep:
        return SeqStep(
            seq=self.job.seq,
            text="".join(self.text),
            n_tokens=len(self.ids),
            prefilled=self.prefilled,
            cached=self.cached,
            token_ids=tuple(self.ids) if self.job.audit else (),
            logprobs=self.job.logprobs(),
            prompt_logprobs=self.prompt_logprobs,
            cache=self.cache,
            finish=self.finish,
        )


class Engine:
    """The batch of one model: who waits, who runs, and what every step made of them."""

    def __init__(
        self,
        backend: Backend,
        info: Info,
        known: KnownPrompts,
        chunks: ChunkController,
        clock: Callable[[], float],
    ) -> None:
        self._backend = backend
        self._info = info
        self.known = known
        self._chunks = chunks
        self._clock = clock
        self._schedule = Schedule(backend, info, known, clock)
        self._running: dict[int, Job] = {}
        self._number = 0
        self.chunk = 0
        """Prompt tokens that the latest step was allowed to read."""
        self.urgent = False
        """The latest step did what nobody should wait for: more than another token for those who have some."""
        self.reused = 0
        self.computed = 0

    @property
    def idle(self) -> bool:
        return not self._schedule.waiting and not self._running

    def insert(self, ready: Ready) -> None:
        self._schedule.add(Job(ready, self._info))

    def cancel(self, seq: int) -> None:
        """Forget a sequence; unknown ids are ignored."""
        job = self._running.get(seq)
        if job is not None:
            self._end(job)
        else:
            self._schedule.forget(seq)

    def step(self) -> Step:
        """Move every running sequence by one token or one chunk of its prompt."""
        self._fill()
        decoding = [job for job in self._running.values() if job.phase == "decoding"]
        batch_only = all(job.generation.priority == "batch" for job in decoding)
        self.chunk = self._chunks.chunk(len(decoding), batch_only=batch_only)
        began, computed = self._clock(), self.computed
        events = self._backend.step(self.chunk)
        seconds = self._clock() - began
        reports = self._postprocess(events)
        self._chunks.observe(len(decoding), self.computed - computed, seconds)
        self.urgent = any(report.urgent for report in reports.values())
        self._number += 1
        return Step(self._number, tuple(report.told() for report in reports.values()))

    def _fill(self) -> None:
        """Start whoever can be."""
        while (job := self._schedule.next(self._running.values(), self._preempt)) is not None:
            lender = self._schedule.lender(job, self._running.values())
            if lender is not None:
                self.known.keep(lender.tokens, self._backend.snapshot(lender.seq))
            self._start(job)

    def _start(self, job: Job) -> None:
        generation, ready = job.generation, job.ready
        if generation.explain_cache and job.cached is None:
            job.explain(self.known.explain(job.prompt))
        reuse = None if job.rereads else self.known.beginning(job.prompt, alone=self._schedule.alone(job))
        job.phase, job.done = "reading", reuse.tokens if reuse is not None else 0
        job.begun = False
        self._running[job.seq] = job
        self._backend.add(
            SeqSpec(
                id=job.seq,
                prompt=job.prompt,
                max_tokens=ready.max_tokens,
                sampling=generation.sampling,
                stop_ids=frozenset() if generation.ignore_eos else self._info.eos,
                min_tokens=generation.min_tokens,
                logprobs=generation.logprobs,
                prompt_logprobs=generation.echo and generation.logprobs is not None,
                mask=ready.grammar.mask() if ready.grammar is not None else None,
                reuse=reuse,
                checkpoints=ready.checkpoints,
                breakers=ready.breakers,
                audit=generation.audit,
            )
        )

    def _preempt(self, job: Job) -> None:
        """Take the slot away; what was read so far is where it will go on."""
        self._end(job)
        self._schedule.put_back(job)

    def _end(self, job: Job) -> None:
        """Free the slot and remember what was computed."""
        del self._running[job.seq]
        handle = self._backend.release(job.seq, keep=not job.audit)
        self.known.keep(job.tokens, handle)
        self._schedule.release_followers(job)

    def _postprocess(self, events: list[Event]) -> dict[int, Report]:
        """One report per sequence, however many events it had; who has finished gives its slot back at the end."""
        reports: dict[int, Report] = {}
        for event in events:
            job = self._running.get(event.seq)
            if job is None:  # it failed a moment ago
                continue
            report = reports.setdefault(event.seq, Report(job))
            match event:
                case Prefilled():
                    self._prefilled(job, event, report)
                case Token():
                    self._token(job, event, report)
                case Snapshot(_, handle):
                    self.known.keep(job.prompt, handle)
                case SeqError(_, message):
                    del self._running[job.seq]
                    self._schedule.release_followers(job)
                    report.finish = Finish("error", message)
        for report in reports.values():
            if report.finish is not None and report.job.seq in self._running:
                self._end(report.job)
        return reports

    def _prefilled(self, job: Job, event: Prefilled, report: Report) -> None:
        if job.cached is None:
            job.cached = report.cached = event.cached
            report.cache = job.explanation
            self.reused += event.cached
        self.computed += event.done - (job.done if job.begun else event.cached)
        job.begun = True
        job.done = report.prefilled = event.done
        report.prompt_logprobs += tuple(map(job.named, event.logprobs))
        if not job.remaining and not job.ready.max_tokens:
            report.finish = Finish("length")

    def _token(self, job: Job, event: Token, report: Report) -> None:
        if report.finish is not None:  # guessed tokens after a stop string: in the KV cache, but not in the text
            job.written.append(event.token)
            return
        first = job.phase == "reading"
        text, finish = job.token(event)
        report.text.append(text)
        report.ids.append(event.token)
        report.finish = finish
        if finish is None and first and self._schedule.followed(job):
            if self._info.prefix == "trim":
                self.known.keep(job.tokens, self._backend.snapshot(job.seq))
            self._schedule.release_followers(job)
