"""One engine step: schedule, run, postprocess. Single-threaded and without I/O."""

from collections.abc import Callable
from dataclasses import dataclass, field

from lmx.backends.base import Backend, Event, Info, Prefilled, SeqError, SeqSpec, Snapshot, Token
from lmx.engine.chunks import ChunkController
from lmx.engine.intake import Ready
from lmx.engine.known import KnownPrompts
from lmx.engine.schedule import Schedule
from lmx.engine.sequence import Sequence
from lmx.machines.frames import Finish, SeqStep, Step
from lmx.machines.types import CacheReport, TokenLogprob

STARTS = 2
"""Sequences that begin in one step beside others that decode: each may have to move what is left in its slot."""


@dataclass
class Report:
    """What a step did for one sequence, while the step's events are gone through."""

    sequence: Sequence
    text: list[str] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    prefilled: int = 0
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    cache: CacheReport | None = None
    cached: int = 0
    finish: Finish | None = None

    @property
    def urgent(self) -> bool:
        return bool(self.prefilled) or self.finish is not None or len(self.ids) == len(self.sequence.written)

    def told(self) -> SeqStep:
        return SeqStep(
            seq=self.sequence.seq,
            text="".join(self.text),
            n_tokens=len(self.ids),
            thought_tokens=self.sequence.thoughts(),
            prefilled=self.prefilled,
            cached=self.cached,
            token_ids=tuple(self.ids),
            logprobs=self.sequence.logprobs(),
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
        self._running: dict[int, Sequence] = {}
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

    @property
    def longest_step(self) -> float | None:
        """Seconds that a step takes at most, by what was measured; None = nothing was."""
        return self._chunks.longest()

    def insert(self, ready: Ready) -> None:
        self._schedule.add(Sequence(ready, self._info))

    def cancel(self, seq: int) -> None:
        """Forget a sequence; unknown ids are ignored."""
        sequence = self._running.get(seq)
        if sequence is not None:
            self._end(sequence)
        else:
            self._schedule.forget(seq)

    def step(self) -> Step:
        """Move every running sequence by one token or one chunk of its prompt."""
        self._fill()
        decoding = [sequence for sequence in self._running.values() if sequence.phase == "decoding"]
        batch_only = all(sequence.generation.priority == "batch" for sequence in decoding)
        reading = (sequence.remaining for sequence in self._running.values() if sequence.phase == "reading")
        self.chunk = self._chunks.chunk(len(decoding), reading, batch_only=batch_only)
        began, computed = self._clock(), self.computed
        events = self._backend.step(self.chunk)
        seconds = self._clock() - began
        reports = self._postprocess(events)
        self._chunks.observe(len(decoding), self.computed - computed, seconds)
        self.urgent = any(report.urgent for report in reports.values())
        self._number += 1
        return Step(self._number, tuple(report.told() for report in reports.values()))

    def _fill(self) -> None:
        """Start whoever can be; beside others that decode, not many at once."""
        decoding = any(sequence.phase == "decoding" for sequence in self._running.values())
        for _ in range(STARTS if decoding else self._info.slots):
            sequence = self._schedule.next(self._running.values(), self._preempt)
            if sequence is None:
                return
            lender = self._schedule.lender(sequence, self._running.values())
            if lender is not None:
                self.known.keep(lender.tokens, self._backend.snapshot(lender.seq))
            self._start(sequence)

    def _start(self, sequence: Sequence) -> None:
        generation, ready = sequence.generation, sequence.ready
        if generation.explain_cache and sequence.cached is None:
            sequence.explain(self.known.explain(sequence.array))
        reuse = None if sequence.rereads else self.known.beginning(sequence.array, alone=self._schedule.alone(sequence))
        sequence.phase, sequence.done = "reading", reuse.tokens if reuse is not None else 0
        sequence.begun = False
        self._running[sequence.seq] = sequence
        self._backend.add(
            SeqSpec(
                id=sequence.seq,
                prompt=sequence.prompt,
                max_tokens=ready.max_tokens,
                sampling=generation.sampling,
                stop_ids=frozenset() if generation.ignore_eos else self._info.eos,
                min_tokens=generation.min_tokens,
                logprobs=generation.logprobs,
                prompt_logprobs=sequence.tells_prompt,
                mask=ready.rules.mask(ready.resume.token_ids, self._info),
                reuse=reuse,
                checkpoints=ready.checkpoints,
                breakers=ready.breakers,
                audit=generation.audit,
                written=ready.written,
                tiles=ready.tiles,
            )
        )

    def _preempt(self, sequence: Sequence) -> None:
        """Take the slot away; what was read so far is where it will go on."""
        self._end(sequence)
        self._schedule.put_back(sequence)

    def _end(self, sequence: Sequence) -> None:
        """Free the slot and remember what was computed."""
        del self._running[sequence.seq]
        handle = self._backend.release(sequence.seq, keep=not sequence.audit)
        self.known.keep(sequence.tokens, handle)
        self._schedule.release_followers(sequence)

    def _postprocess(self, events: list[Event]) -> dict[int, Report]:
        """One report per sequence, however many events it had; who has finished gives its slot back at the end."""
        reports: dict[int, Report] = {}
        for event in events:
            sequence = self._running.get(event.seq)
            if sequence is None:  # it failed a moment ago
                continue
            report = reports.setdefault(event.seq, Report(sequence))
            match event:
                case Prefilled():
                    self._prefilled(sequence, event, report)
                case Token():
                    self._token(sequence, event, report)
                case Snapshot(_, handle):
                    self.known.keep(sequence.prompt, handle)
                case SeqError(_, message):
                    del self._running[sequence.seq]
                    self._schedule.release_followers(sequence)
                    report.finish = Finish("error", message)
        for report in reports.values():
            if report.finish is not None and report.sequence.seq in self._running:
                self._end(report.sequence)
        return reports

    def _prefilled(self, sequence: Sequence, event: Prefilled, report: Report) -> None:
        if sequence.cached is None:
            sequence.cached = report.cached = event.cached
            report.cache = sequence.explanation
            self.reused += event.cached
        self.computed += event.done - (sequence.done if sequence.begun else event.cached)
        sequence.begun = True
        sequence.done = report.prefilled = event.done
        report.prompt_logprobs += tuple(map(sequence.named, event.logprobs))
        if not sequence.remaining and not sequence.ready.max_tokens:
            report.finish = Finish("length")

    def _token(self, sequence: Sequence, event: Token, report: Report) -> None:
        if report.finish is not None:  # guessed tokens after a stop string: in the KV cache, but not in the text
            sequence.written.append(event.token)
            return
        first = sequence.phase == "reading"
        text, finish = sequence.token(event)
        report.text.append(text)
        report.ids.append(event.token)
        report.finish = finish
        if finish is None and first and self._schedule.followed(sequence):
            if self._info.prefix == "trim":
                self.known.keep(sequence.tokens, self._backend.snapshot(sequence.seq))
            self._schedule.release_followers(sequence)
