"""The canary in one model's workers: when it sings, what it is asked, what is heard, and the verdict."""

from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

from msgspec.structs import replace

from lmx.actors.base import House, Log
from lmx.actors.dossier import Dossier
from lmx.actors.facts import Note
from lmx.actors.messages import model, state
from lmx.actors.messages.ref import Ref
from lmx.machines import canary, frames
from lmx.machines.canary import Asked, Heard, Record
from lmx.machines.tasks import Embedding
from lmx.machines.types import Generation, ModelInfo, ModelSpec, TokenLogprob

P = ParamSpec("P")
R = TypeVar("R")

Report = frames.Step | frames.Accepted | frames.Rejected | frames.Embedded | frames.Rendered
Send = Callable[[frames.Insert | frames.Embed | frames.Cancel], None]

OVERDUE_SECONDS = 60.0
"""A song that an idle model has not answered by then has found a worker that is stuck."""

SOONEST = 0.01
"""Seconds until the next look; less is a rounding error, and would be looked at for ever."""


class Decide(Protocol):
    def __call__(self, policy: Callable[P, R], *args: P.args, **inputs: P.kwargs) -> R: ...


class CanaryRun:
    """One song, stage after stage, under ids below 0 and through the same engine path as every request."""

    def __init__(self, asked: Asked, first: int, send: Send, done: Callable[[tuple[Heard, ...]], None]) -> None:
        """`first` is the highest of its ids; `done(heard)` is called once, in the order of the song or at a fault."""
        self._stages = list(asked)
        self._send = send
        self._done = done
        self._unended: dict[int, Heard] = {}
        """What was heard so far of those that go on, by id."""
        self._ended: dict[int, Heard] = {}
        self.next_id = first

    def sing(self) -> None:
        """Start the next stage."""
        for asked in self._stages.pop(0):
            self._unended[self.next_id] = Heard()
            self._send(self._frame(self.next_id, asked))
            self.next_id -= 1

    def stop(self) -> None:
        """No more is asked, and nothing more is heard."""
        for seq in self._unended:
            self._send(frames.Cancel(seq))
        self._unended.clear()

    def hear(self, report: Report) -> None:
        """What the worker says of anything."""
        match report:
            case frames.Step(_, seqs):
                for did in seqs:
                    if did.seq in self._unended:
                        self._stepped(did)
            case frames.Rejected(seq, refusal) if seq in self._unended:
                self._end(seq, Heard(reason="refused", error=refusal.message))
            case frames.Embedded(job, vectors) if job in self._unended:
                numbers = Heard(reason="numbers", vectors=canary.beginnings(vectors))
                self._end(job, Heard(reason="error", error=report.error) if report.error else numbers)
            case _:
                pass

    def _frame(self, number: int, asked: Generation | Embedding) -> frames.Insert | frames.Embed:
        return frames.Embed(number, asked) if isinstance(asked, Embedding) else frames.Insert(number, asked)

    def _stepped(self, did: frames.SeqStep) -> None:
        before = self._unended[did.seq]
        now = replace(
            before,
            token_ids=before.token_ids + did.token_ids,
            leads=before.leads + tuple(map(_lead, did.logprobs)),
            text=before.text + did.text,
        )
        self._unended[did.seq] = now
        if did.finish is not None:
            self._end(did.seq, replace(now, reason=did.finish.reason, error=did.finish.error))

    def _end(self, seq: int, heard: Heard) -> None:
        """At the end of a stage, sing the next one or be done."""
        del self._unended[seq]
        self._ended[seq] = heard
        if self._unended:
            return
        if self._stages and not any(answer.error for answer in self._ended.values()):
            self.sing()
        else:
            self._done(tuple(self._ended[seq] for seq in sorted(self._ended, reverse=True)))


class Canary:
    """One model's, over all of its workers: keeps golden answers, and knows when the model was last heard."""

    def __init__(
        self,
        house: House,
        dossier: Dossier,
        record: Record | None,
        owner: Ref[model.Message],
        log: Log,
        note: Note,
        decide: Decide,
        send: Send,
    ) -> None:
        self._house = house
        self._dossier = dossier
        self._record = record
        self._owner = owner
        self._log = log
        self._note = note
        self._decide = decide
        self._send = send
        self._run: CanaryRun | None = None
        self._next_id = -1
        self._info: ModelInfo | None = None
        self._key = ""
        self._bare = True
        self._goldens = dict(dossier.goldens)
        self._answered_at = 0
        self._opening = 0
        self._quiet_since = self._began = self._due = 0.0

    def loaded(self, spec: ModelSpec, info: ModelInfo) -> None:
        """A worker has the model, as `spec` says."""
        self._info = info
        self._bare = not spec.adapters and not spec.chat_template
        settings = (spec.backend, spec.kv_type, spec.flash_attention)
        self._key = canary.key(info=info, settings=settings, adapters=spec.adapters, host=self._dossier.host)

    def sing(self, done: Callable[[str], None], *, brief: bool = False) -> None:
        """Ask the worker; `done(error)` is called once unless it is stopped, with an empty error when all was well."""
        assert self._info is not None
        record = self._record if self._bare else None  # which is of the bare model
        asked = canary.song(record, self._info, brief=brief)
        self._began = self._house.clock.monotonic()

        def heard(answers: tuple[Heard, ...]) -> None:
            self._next_id, self._run = run.next_id, None
            done(self._judged(record, answers, self._house.clock.monotonic() - self._began))

        run = CanaryRun(asked, self._next_id, self._send, heard)
        self._run = run
        run.sing()

    def sing_idle(self, done: Callable[[str], None], *, brief: bool = False) -> None:
        """The same for a model that serves, unless it sings; the owner is told when that should have ended."""
        if self._run is None:
            number = self._next_id
            self.sing(done, brief=brief)
            self._due = self._house.clock.monotonic() + OVERDUE_SECONDS
            self._house.timers.after(OVERDUE_SECONDS, self._owner, model.SongOverdue(number))

    def overslept(self, seconds: float) -> None:
        """So long the main process did not run: that is no time of a song that goes on."""
        if self._run is not None:
            now = self._house.clock.monotonic()
            self._began, self._due = min(self._began + seconds, now), self._due + seconds
            self._house.timers.after(max(SOONEST, self._due - now), self._owner, model.SongOverdue(self._next_id))

    def is_overdue(self, run: int) -> bool:
        """Whether song number `run` still goes on, and has had its time."""
        return self._run is not None and self._next_id == run and self._due <= self._house.clock.monotonic()

    def stop(self) -> None:
        """A request has come, or the worker is gone: what was being sung tells nothing."""
        if self._run is not None:
            self._run.stop()
            self._next_id, self._run = self._run.next_id, None

    def hear(self, report: Report) -> None:
        if self._run is not None:
            self._run.hear(report)
        now = int(self._house.clock.time())
        if now != self._answered_at and _answers(report):  # a clock may be set back
            self._answered_at = now
            self._note(answered_at=now)

    def opened(self) -> None:
        """The model serves from now on: watch whether it rests."""
        self._opening += 1
        self.rests()
        self._watch(self._dossier.idle_seconds)

    def rests(self) -> None:
        """Its last request has ended."""
        self._quiet_since = self._house.clock.monotonic()

    def is_due(self, opening: int, *, idle: bool) -> bool:
        """Whether the model has rested for long; looks again later in any case, unless `opening` is a late one."""
        if opening != self._opening:
            return False
        seconds = self._dossier.idle_seconds
        rested = self._house.clock.monotonic() - self._quiet_since if idle else 0.0
        left = seconds - rested
        self._watch(max(left, SOONEST) if left > 0 else seconds)
        return left <= 0

    def closed(self) -> None:
        """It serves no more."""
        self._opening += 1
        self.stop()

    def _watch(self, seconds: float) -> None:
        self._house.timers.after(seconds, self._owner, model.Rested(self._opening))

    def _judged(self, record: Record | None, heard: tuple[Heard, ...], seconds: float) -> str:
        golden = self._goldens.get(self._key)
        took = round(seconds, 3)
        verdict = self._decide(canary.judge, record=record, golden=golden, heard=heard, seconds=took)
        if verdict.error:
            digest = self._info.digest if self._info is not None else ""
            self._log.warning("canary_failed", reason=verdict.error, model_digest=digest, key=self._key)
            return verdict.error
        if verdict.golden is not None:
            self._goldens[self._key] = verdict.golden
            self._house.state.tell(state.Sang(self._key, verdict.golden))
        if canary.is_whole(heard):
            self._note(canary_seconds=took, degraded=verdict.degraded or None)
        return ""


def _lead(logprob: TokenLogprob) -> float:
    return canary.lead([likely.logprob for likely in logprob.top])


def _answers(report: Report) -> bool:
    """Whether the model has produced something."""
    match report:
        case frames.Step(_, seqs):
            return any(did.n_tokens for did in seqs)
        case frames.Embedded():
            return not report.error
        case _:
            return False
