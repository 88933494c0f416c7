"""The sequences of one model, from Serve to their one outcome."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from lmx.actors import metrics
from lmx.actors.messages import client, model
from lmx.actors.messages.ref import Ref
from lmx.actors.ports import Clock
from lmx.machines import frames
from lmx.machines.sequence import OUTCOMES, TABLE
from lmx.machines.types import Embedding, Failure, FailureKind, Generation, Refusal, Usage


@dataclass(slots=True)
class Sequence:
    seq: int
    generation: Generation | Embedding
    reply_to: Ref[client.Event]
    since: float
    phase: str = "waiting"
    inserted: bool = False
    """The worker knows it."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def move(self, event: str) -> None:
        """Raises KeyError for an event that the declared SequenceMachine does not know in this phase."""
        self.phase = TABLE[self.phase, event]


@dataclass
class Sequences:
    """Keeps them by id; whatever ends is told once, counted once, and gone."""

    name: str
    clock: Clock
    _live: dict[int, Sequence] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._live)

    def add(self, ask: model.Serve) -> Sequence:
        sequence = Sequence(ask.seq, ask.generation, ask.reply_to, self.clock.monotonic())
        self._live[ask.seq] = sequence
        return sequence

    def insert(self, seq: int) -> frames.Insert | frames.Embed:
        """Mark one as known to the worker, which is to be told so."""
        sequence = self._live[seq]
        sequence.inserted = True
        asked = sequence.generation
        return frames.Embed(seq, asked) if isinstance(asked, Embedding) else frames.Insert(seq, asked)

    def waiting(self) -> Iterator[Sequence]:
        """Those that the worker does not know yet, oldest first."""
        return (sequence for sequence in list(self._live.values()) if not sequence.inserted)

    def inserted(self) -> int:
        return sum(sequence.inserted for sequence in self._live.values())

    def hear(self, report: frames.Step | frames.Accepted | frames.Rejected | frames.Embedded) -> bool:
        """What the worker says of sequences, and whether one may have ended with it."""
        match report:
            case frames.Step(_, seqs):
                for did in seqs:
                    self.stepped(did)
                return any(did.finish is not None for did in seqs)
            case frames.Accepted():
                self.accepted(report)
                return False
            case frames.Rejected(seq, refusal):
                self.refuse(seq, refusal)
            case frames.Embedded():
                self.embedded(report)
        return True

    def accepted(self, report: frames.Accepted) -> None:
        sequence = self._live.get(report.seq)
        if sequence is not None:
            sequence.prompt_tokens = report.prompt_tokens
            sequence.reply_to.tell(client.Accepted(report.prompt_tokens, report.echo, report.cut))

    def stepped(self, did: frames.SeqStep) -> None:
        """One sequence's share of an engine step. Late words about a cancelled one are dropped."""
        sequence = self._live.get(did.seq)
        if sequence is None:
            return
        if did.prefilled:
            self._prefilled(sequence, did)
        if did.n_tokens:
            if sequence.phase != "decoding":
                self._first_token(sequence)
            sequence.completion_tokens += did.n_tokens
        if did.text or did.logprobs:
            sequence.reply_to.tell(client.Delta(did.text, did.logprobs))
        if did.finish is not None:
            self._finished(sequence, did.finish)

    def embedded(self, report: frames.Embedded) -> None:
        """A job is done."""
        sequence = self._live.get(report.job)
        if sequence is None:
            return
        if report.error:
            self._finished(sequence, frames.Finish("error", report.error))
            return
        sequence.prompt_tokens = sum(report.tokens)
        sequence.move("prefill")
        sequence.reply_to.tell(client.Embedded(report.vectors, report.width, report.tokens))
        self._finished(sequence, frames.Finish("stop"))

    def refuse(self, seq: int, refusal: Refusal) -> None:
        sequence = self._live.get(seq)
        if sequence is not None:
            metrics.REFUSALS.labels(refusal.kind.value).inc()
            self._end(sequence, "refuse", client.Refused(refusal))

    def refuse_waiting(self, refusal: Refusal) -> None:
        for sequence in self.waiting():
            self.refuse(sequence.seq, refusal)

    def fail(self, failure: Failure, *, inserted_only: bool) -> None:
        for sequence in list(self._live.values()):
            if sequence.inserted or not inserted_only:
                self._end(sequence, "fail", client.Failed(failure))

    def drop(self, seq: int, failure: Failure | None) -> Sequence | None:
        """End one: cancelled when its client is gone, failed with a `failure`. None when it has ended already."""
        sequence = self._live.get(seq)
        if sequence is not None and failure is None:
            self._end(sequence, "cancel", None)
        elif sequence is not None and failure is not None:
            self._end(sequence, "fail", client.Failed(failure))
        return sequence

    def _prefilled(self, sequence: Sequence, did: frames.SeqStep) -> None:
        sequence.move("prefill")
        sequence.cached_tokens = did.cached or sequence.cached_tokens
        sequence.reply_to.tell(client.Prefilled(did.prefilled, did.prompt_logprobs, did.cache))

    def _first_token(self, sequence: Sequence) -> None:
        """Later ones change no phase: this is the one move that the hot path makes."""
        sequence.move("token")
        metrics.TTFT.labels(self.name).observe(self.clock.monotonic() - sequence.since)

    def _finished(self, sequence: Sequence, finish: frames.Finish) -> None:
        if finish.reason == "error":
            failure = Failure(FailureKind.ENGINE_ERROR, finish.error)
            self._end(sequence, "fail", client.Failed(failure))
            return
        usage = Usage(sequence.prompt_tokens, sequence.completion_tokens, sequence.cached_tokens)
        self._end(sequence, "finish", client.Finished(finish.reason, usage))

    def _end(self, sequence: Sequence, event: str, outcome: client.Outcome | None) -> None:
        sequence.move(event)
        del self._live[sequence.seq]
        assert sequence.phase in OUTCOMES
        metrics.REQUESTS.labels(self.name, sequence.phase).inc()
        metrics.PROMPT_TOKENS.labels(self.name).inc(sequence.prompt_tokens)
        metrics.COMPLETION_TOKENS.labels(self.name).inc(sequence.completion_tokens)
        if outcome is not None:
            sequence.reply_to.tell(outcome)
