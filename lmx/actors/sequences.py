"""The sequences of one model, from Serve to their one outcome, through as many workers as that takes."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from lmx.actors import metrics
from lmx.actors.messages import client, model
from lmx.actors.messages.ref import Ref
from lmx.actors.ports import Clock
from lmx.actors.trials import Trials
from lmx.actors.turnstile import Turnstile
from lmx.actors.writing import Writing
from lmx.machines import frames
from lmx.machines.sequence import OUTCOMES, TABLE
from lmx.machines.suspects import Suspects, fingerprint
from lmx.machines.tasks import Embedding, Rendering, Task
from lmx.machines.types import Failure, FailureKind, Generation, Refusal, RefusalKind, Usage

Start = frames.Insert | frames.Embed | frames.Render
Order = Start | frames.Cancel
Report = frames.Step | frames.Accepted | frames.Rejected | frames.Embedded | frames.Rendered


@dataclass(slots=True, eq=False)
class Sequence:
    seq: int
    generation: Task
    reply_to: Ref[client.Event]
    since: float
    phase: str = "waiting"
    wire: int = 0
    """What the worker that knows it calls it, or the latest one that did; 0 = none ever has."""
    inserted: bool = False
    """The present worker knows it."""
    deaths: int = 0
    """Workers that died with it."""
    suspect: bool = False
    """It is to run alone first."""
    accepted: bool = False
    spoke: bool = False
    """It has had its first token."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    writing: Writing = field(default_factory=Writing)

    @property
    def begun(self) -> bool:
        """A worker has known it: it may fail, but is not refused any more."""
        return self.wire > 0

    @property
    def mark(self) -> str:
        return fingerprint(self.generation)

    def move(self, event: str) -> None:
        """Raises KeyError for an event that the declared SequenceMachine does not know in this phase."""
        self.phase = TABLE[self.phase, event]

    def take_out(self) -> None:
        """No worker holds it now; what it wrote so far is where the next one goes on."""
        self.inserted = False
        self.move("interrupt")
        self.writing.cut(logprobs=isinstance(self.generation, Generation) and self.generation.logprobs is not None)

    def order(self) -> Start:
        asked = self.generation
        if isinstance(asked, Embedding):
            return frames.Embed(self.wire, asked)
        if isinstance(asked, Rendering):
            return frames.Render(self.wire, asked)
        return frames.Insert(self.wire, asked, self.writing.resume())


@dataclass
class Sequences:
    """Keeps them by id; whatever ends is told once, counted once, and gone."""

    name: str
    clock: Clock
    turnstile: Turnstile = field(default_factory=lambda: Turnstile(""))
    suspects: Suspects = field(default_factory=Suspects)
    doubtful: bool = False
    """The engine computed what is no number: is the model well? Until its canary has said so."""
    _live: dict[int, Sequence] = field(default_factory=dict)
    _waiting: dict[int, Sequence] = field(default_factory=dict)
    """Those that the present worker does not know."""
    _wired: dict[int, Sequence] = field(default_factory=dict)
    """The others, by what the worker calls them."""
    _latest: int = 0
    _trials: Trials[Sequence] = field(default_factory=Trials)

    def __len__(self) -> int:
        return len(self._live)

    def add(self, ask: model.Serve) -> Sequence:
        sequence = Sequence(ask.seq, ask.generation, ask.reply_to, self.clock.monotonic())
        self._live[ask.seq] = self._waiting[ask.seq] = sequence
        return sequence

    def insert(self, seq: int) -> Start:
        """Mark one as known to the worker, which is to be told so.

        Its id there is new, and higher than all before: late words about an earlier turn are nobody's.
        """
        sequence = self._waiting.pop(seq)
        sequence.wire = self._latest = max(seq, self._latest + 1)
        sequence.inserted = True
        self._wired[sequence.wire] = sequence
        return sequence.order()

    def due(self, *, newcomers: bool) -> Iterator[Order]:
        """What the worker is to be told now: whose turn it is, and who makes room for a trial."""
        if self._trials.pending:
            return
        waiting = list(self.waiting())
        suspect = next((sequence for sequence in waiting if sequence.suspect), None)
        if suspect is None:
            yield from (self.insert(sequence.seq) for sequence in waiting if newcomers or sequence.begun)
            return
        for sequence in list(self._wired.values()):
            yield frames.Cancel(sequence.wire)
            self._take_out(sequence)
        yield self.insert(suspect.seq)
        self._trials.begin(suspect)

    def waiting(self) -> Iterator[Sequence]:
        """Those that the worker does not know, oldest first."""
        return iter([self._waiting[seq] for seq in sorted(self._waiting)])

    def unfinished(self) -> int:
        """Those that a worker has begun."""
        return len(self._wired) + sum(sequence.begun for sequence in self._waiting.values())

    def batch(self) -> dict[str, bool]:
        """What is in the worker: fingerprint → whether it was continued before."""
        batch: dict[str, bool] = {}
        for sequence in self._wired.values():
            batch[sequence.mark] = batch.get(sequence.mark, False) or sequence.deaths > 0
        return batch

    def interrupt(self, guilty: tuple[str, ...], failure: Failure) -> None:
        """The worker died: what it held waits for the next one; the guilty, wherever they are, end with `failure`."""
        for sequence in list(self._wired.values()):
            sequence.deaths += 1
            sequence.suspect = True
            self._take_out(sequence)
            metrics.CONTINUED.labels(self.name).inc(sequence.mark not in guilty)
        for sequence in self.waiting() if guilty else ():
            if sequence.mark in guilty:
                self._end(sequence, "fail", client.Failed(failure))

    def hear(self, report: Report) -> bool:
        """What the worker says of sequences, and whether another's turn may have come with it."""
        match report:
            case frames.Step(_, seqs):
                for did in seqs:
                    self.stepped(did)
                return self._trials.heard(seqs) or any(did.finish is not None for did in seqs)
            case frames.Accepted():
                self.accepted(report)
                return False
            case frames.Rejected(wire, refusal):
                if sequence := self._known(wire):
                    self._turn_away(sequence, refusal)
            case frames.Embedded():
                self.embedded(report)
            case frames.Rendered(wire, tokens, text):
                if sequence := self._known(wire):
                    self._answered(sequence, client.Rendered(tokens, text, self.name))
        return True

    def accepted(self, report: frames.Accepted) -> None:
        sequence = self._known(report.seq)
        if sequence is not None and not sequence.accepted:
            sequence.accepted = True
            sequence.prompt_tokens = report.prompt_tokens
            news = client.Accepted(report.prompt_tokens, report.echo, report.cut, report.speech, model=self.name)
            sequence.reply_to.tell(news)

    def stepped(self, did: frames.SeqStep) -> None:
        """One sequence's share of an engine step. Late words about a cancelled one are dropped."""
        sequence = self._known(did.seq)
        if sequence is None:
            return
        if did.prefilled:
            self._prefilled(sequence, did)
        if did.n_tokens and sequence.phase != "decoding":
            self._first_token(sequence)
        sequence.writing.add(did)
        if did.text or did.logprobs:
            sequence.reply_to.tell(client.Delta(did.text, did.logprobs))
        if did.finish is not None:
            self._finished(sequence, did.finish)

    def embedded(self, report: frames.Embedded) -> None:
        """A job is done."""
        sequence = self._known(report.job)
        if sequence is None:
            return
        if report.error:
            self._finished(sequence, frames.Finish("error", report.error))
            return
        sequence.prompt_tokens = sum(report.tokens)
        self._answered(sequence, client.Embedded(report.vectors, report.width, report.tokens, self.name))

    def refuse(self, seq: int, refusal: Refusal) -> None:
        sequence = self._live.get(seq)
        if sequence is not None:
            metrics.REFUSALS.labels(refusal.kind.value).inc()
            self._end(sequence, "refuse", client.Refused(refusal))

    def refuse_waiting(self, refusal: Refusal) -> None:
        for sequence in self.waiting():
            self._turn_away(sequence, refusal)

    def fail(self, failure: Failure, *, begun_only: bool) -> None:
        for sequence in list(self._live.values()):
            if sequence.begun or not begun_only:
                self._end(sequence, "fail", client.Failed(failure))

    def drop(self, seq: int, failure: Failure | None) -> Sequence | None:
        """End one: cancelled when its client is gone, failed with a `failure`. None when it has ended already."""
        sequence = self._live.get(seq)
        if sequence is not None and failure is None:
            self._end(sequence, "cancel", None)
        elif sequence is not None and failure is not None:
            self._end(sequence, "fail", client.Failed(failure))
        return sequence

    def _answered(self, sequence: Sequence, answer: client.Embedded | client.Rendered) -> None:
        """One that has no text, and is over with its answer."""
        sequence.move("prefill")
        sequence.reply_to.tell(answer)
        self._finished(sequence, frames.Finish("stop"))

    def _known(self, wire: int) -> Sequence | None:
        """Whom the worker speaks of; the canary's ids are below 0."""
        sequence = self._wired.get(wire)
        if sequence is None and wire >= 0:
            metrics.STRAY_REPORTS.labels(self.name).inc()
        return sequence

    def _take_out(self, sequence: Sequence) -> None:
        del self._wired[sequence.wire]
        sequence.take_out()
        self._waiting[sequence.seq] = sequence

    def _turn_away(self, sequence: Sequence, refusal: Refusal) -> None:
        """Refuse it; one that was accepted fails, for its client was told that it would not be refused."""
        if not sequence.accepted:
            self.refuse(sequence.seq, refusal)
            return
        ill = refusal.kind in (RefusalKind.MODEL_QUARANTINED, RefusalKind.MODEL_LOAD_FAILED)
        failure = Failure(FailureKind.WORKER_DIED if ill else FailureKind.ABORTED, refusal.message, retry=not ill)
        self._end(sequence, "fail", client.Failed(failure))

    def _prefilled(self, sequence: Sequence, did: frames.SeqStep) -> None:
        sequence.move("prefill")
        if not sequence.writing.read:
            sequence.cached_tokens = did.cached
        news = sequence.writing.prefilled(did, sequence.prompt_tokens)
        if news is not None:
            sequence.reply_to.tell(news)

    def _first_token(self, sequence: Sequence) -> None:
        """Of this worker. Later ones change no phase: this is the one move that the hot path makes."""
        sequence.move("token")
        if not sequence.spoke:
            sequence.spoke = True
            metrics.TTFT.labels(self.name).observe(self.clock.monotonic() - sequence.since)
            self.turnstile.began(sequence.seq, sequence.prompt_tokens - sequence.cached_tokens)

    def _finished(self, sequence: Sequence, finish: frames.Finish) -> None:
        if finish.reason == "error":
            # as every backend says of logits and vectors with a NaN or an infinity
            self.doubtful = self.doubtful or "finite" in finish.error
            failure = Failure(FailureKind.ENGINE_ERROR, finish.error)
            self._end(sequence, "fail", client.Failed(failure))
            return
        self.suspects.acquit(sequence.generation)
        writing = sequence.writing
        usage = Usage(sequence.prompt_tokens, writing.tokens, sequence.cached_tokens, writing.thoughts)
        self._end(sequence, "finish", client.Finished(finish.reason, usage, finish.stop))

    def _end(self, sequence: Sequence, event: str, outcome: client.Outcome | None) -> None:
        sequence.move(event)
        del self._live[sequence.seq]
        self._waiting.pop(sequence.seq, None)
        self._wired.pop(sequence.wire, None)
        self._trials.ended(sequence)
        assert sequence.phase in OUTCOMES
        metrics.REQUESTS.labels(self.name, sequence.phase).inc()
        metrics.PROMPT_TOKENS.labels(self.name).inc(sequence.prompt_tokens)
        metrics.COMPLETION_TOKENS.labels(self.name).inc(sequence.writing.tokens)
        self.turnstile.ended(sequence.seq, sequence.prompt_tokens + sequence.writing.tokens)
        if outcome is not None:
            sequence.reply_to.tell(outcome)
