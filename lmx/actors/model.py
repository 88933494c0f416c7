"""One model: its machine, its worker, its sequences."""

from random import Random
from typing import assert_never

from msgspec.structs import replace

from lmx.actors import metrics
from lmx.actors.base import House, MachineActor
from lmx.actors.callers import Callers
from lmx.actors.canary import CanaryRun
from lmx.actors.facts import Facts
from lmx.actors.messages import caller, loader, model
from lmx.actors.messages.ref import Ref
from lmx.actors.ports import Launcher
from lmx.actors.seat import Seat
from lmx.actors.sequences import Sequences
from lmx.actors.wish import Wish
from lmx.machines import frames
from lmx.machines import model as life
from lmx.machines.base import Effect
from lmx.machines.canary import Record
from lmx.machines.types import Failure, FailureKind, ModelInfo, ModelSpec, Refusal, RefusalKind

LOST = Refusal(RefusalKind.MODEL_UNLOADED, "lmx had an internal error and lost the state of this model.", 2.0)
SHUT = Refusal(RefusalKind.DRAINING, "The server is shutting down.", 5.0)


class ModelActor(MachineActor[model.Message]):
    machine: life.ModelMachine

    def __init__(
        self,
        house: House,
        spec: ModelSpec,
        need_bytes: int,
        record: Record | None,
        loader: Ref[loader.Message],
        launcher: Launcher,
        random: Random,
    ) -> None:
        """`need_bytes` is what a load reserves; `record` the canary's known answer, if there is one."""
        super().__init__(f"model:{spec.name}", house, model.StateTimedOut)
        self.spec = spec
        self._record = record
        self._wish = Wish(spec.name, need_bytes, loader)
        self._random = random
        self._seat = Seat(launcher)
        self._callers = Callers(spec.name)
        self._facts = Facts(spec.name, self.note)
        self._heir = life.ModelMachine()
        self._restarts = 0
        self._shut = False

    def make_machine(self) -> life.ModelMachine:
        return self._heir

    def set_up(self) -> None:
        self.sequences = Sequences(self.spec.name, self.house.clock)
        self._canary: CanaryRun | None = None
        self._info: ModelInfo | None = None
        self._wish.by_admin = False
        self._ready_since: float | None = None
        super().set_up()
        self._facts.wanted(self.spec)
        self.note(in_flight=0, restarts=self._restarts)
        if self.machine.current == "unloaded":
            self._callers.settle("unloaded")

    def clean_up(self) -> None:
        """A worker that still sits there is killed; its memory and its seat are given back when it has exited."""
        self.sequences.fail(Failure(FailureKind.INTERNAL, LOST.message), inserted_only=False)
        self._callers.refuse(LOST)
        killed = self._seat.kill()
        if not killed:
            self._wish.withdraw()
        self._heir = self.machine.reborn(worker=killed)

    def on_stop(self) -> None:
        super().on_stop()
        self._callers.abandon(LOST)

    def receive(self, message: model.Message) -> None:
        match message:
            case model.Reported(number, report):
                if self._seat.holds(number):
                    self._reported(report)
            case model.Serve():
                self._serve(message)
            case model.Cancel(seq):
                self._drop(seq, None)
            case model.Abort(seq, failure):
                self._drop(seq, failure)
            case model.Load(by_admin, reply_to):
                self._load(by_admin, reply_to)
            case model.Unload(reply_to):
                self._unload(reply_to, "An admin asked for it.")
            case model.Adapt():
                self._adapt(message)
            case model.Shut(reply_to):
                self._shut = True
                self.sequences.fail(Failure(FailureKind.ABORTED, SHUT.message), inserted_only=False)
                self._unload(reply_to, SHUT.message)
            case model.Evict():
                self._evict()
            case model.Granted(ticket):
                self._granted(ticket)
            case model.Refused(ticket, refusal):
                if self._awaits(ticket):
                    self.feed("refused", refusal.message, refusal=refusal)
            case model.WorkerExited():
                self._exited(message)
            case model.StateTimedOut(generation, event):
                self.timed_out(generation, event)
            case _:
                assert_never(message)

    def perform(self, effect: Effect) -> None:
        match effect:
            case life.AcquireLoader():
                self._wish.make(self.myself)
            case life.WithdrawFromLoader():
                self._wish.withdraw()
            case life.GiveBackMemory():
                self._wish.give_back()
            case life.AbortRunning(failure):
                self.sequences.fail(failure, inserted_only=True)
                self._note_in_flight()
            case life.RefuseWaiting(refusal):
                self.sequences.refuse_waiting(refusal)
                self._callers.refuse(refusal)
                self._note_in_flight()
            case life.Open():
                self._open()
            case life.Closed():
                self._closed()
            case life.Schedule(seconds, event):
                self._restarts += 1
                self.note(restarts=self._restarts, retry_at=self.house.clock.time() + seconds)
                self.schedule(seconds, event)
            case life.SpawnWorker():
                self._spawn()
            case life.RunCanary():
                self._sing()
            case _:
                self._seat.perform(effect)

    def _serve(self, ask: model.Serve) -> None:
        self.sequences.add(ask)
        answer = SHUT if self._shut else self.machine.answer()
        if isinstance(answer, Refusal):
            self.sequences.refuse(ask.seq, answer)
        elif answer == "serve":
            self._seat.send(self.sequences.insert(ask.seq))
        elif self.machine.current == "unloaded":
            self.feed("request", "A request needs it.")
        self._note_in_flight()

    def _drop(self, seq: int, failure: Failure | None) -> None:
        sequence = self.sequences.drop(seq, failure)
        if sequence is not None and sequence.inserted:
            self._seat.send(frames.Cancel(seq))
        self._settle()

    def _settle(self) -> None:
        """Sequences ended: the model may be idle, or drained."""
        self._note_in_flight()
        if not len(self.sequences):
            self._wish.became_idle()
        if self.machine.current == "draining" and not self.sequences.inserted():
            self.feed("drained", "Nothing runs any more.")

    def _note_in_flight(self) -> None:
        self.note(in_flight=len(self.sequences))

    def _spawn(self) -> None:
        try:
            self._facts.started(self._seat.take(self.myself))
        except OSError as error:
            self._died("exit", f"The worker process could not be started: {error}.")
        else:
            self._seat.send(frames.Load(self.spec))

    def _reported(self, report: frames.Report) -> None:
        match report:
            case frames.Step() | frames.Accepted() | frames.Rejected() | frames.Embedded():
                if self._canary is not None:
                    self._canary.hear(report)
                if self.sequences.hear(report):
                    self._settle()
            case frames.Loaded(info):
                self._info = info
                self._facts.loaded(info)
                self.feed("loaded", "The weights are in memory.")
            case frames.LoadFailed(text):
                self.feed("load_failed", text)
            case frames.Warmed(error):
                self.feed("warm_failed" if error else "warmed", error or "")
            case frames.LoadProgress() | frames.Idled() | frames.Telemetry():
                self._facts.hear(report)
            case frames.Hello() | frames.Broken() | frames.Beat() | frames.Probed():
                pass  # WorkerProcess checks the one and ends with the other
            case _:
                assert_never(report)

    def _sing(self) -> None:
        assert self._info is not None
        record = None if self.spec.adapters else self._record  # which is of the bare model
        self._canary = CanaryRun(record, self._info, self._seat.send, self._canary_done)
        self._canary.sing()

    def _canary_done(self, error: str) -> None:
        self.feed("canary_failed" if error else "canary_passed", error or "The canary sang.")

    def _exited(self, exit: model.WorkerExited) -> None:
        if self._seat.holds(exit.worker):
            self._seat.leave()
            self._facts.gone(exit.detail)
            self._died(exit.cause, exit.detail)

    def _died(self, cause: str, detail: str) -> None:
        metrics.WORKER_EXITS.labels(self.spec.name, cause).inc()
        now = self.house.clock.monotonic()
        healthy = now - self._ready_since if self._ready_since is not None else 0.0
        self._ready_since = None
        self.feed("worker_exited", detail, now=now, chance=self._random.random(), healthy=healthy)

    def _load(self, by_admin: bool, reply_to: Ref[caller.Reply] | None) -> None:
        self._callers.add("ready", reply_to)
        state = self.machine.current
        if self._shut:
            self._callers.refuse(SHUT)
            return
        if by_admin and state not in ("loading", "warming", "canary", "ready"):
            self._wish.by_admin = True
        if state == "ready":
            self._callers.settle("ready")
        elif by_admin and state == "queued":
            self._wish.withdraw()  # that one is not an admin's
            self._wish.make(self.myself)
        elif state == "unloaded":
            self.feed("request", "An admin asked for it." if by_admin else "It is to be loaded from the start.")
        elif by_admin and state in ("failed", "quarantined"):
            self.feed("release", "An admin released it.")

    def _adapt(self, ask: model.Adapt) -> None:
        self.spec = replace(self.spec, adapters=ask.adapters)
        self._facts.wanted(self.spec)
        if self.machine.current in ("loading", "warming", "canary", "ready"):
            self.feed("drain", "Its adapters change.")
            self._load(True, ask.reply_to)
            self._settle()
        elif self.machine.current in ("queued", "backoff", "failed", "quarantined") or self._callers.wait_for("ready"):
            self._load(True, ask.reply_to)
        else:
            self._unload(ask.reply_to, "")

    def _unload(self, reply_to: Ref[caller.Reply] | None, reason: str) -> None:
        self._callers.refuse(Refusal(RefusalKind.MODEL_UNLOADED, reason, 2.0))
        self._callers.add("unloaded", reply_to)
        self._wish.by_admin = False
        state = self.machine.current
        if state == "unloaded":
            self._callers.settle("unloaded")
        elif state not in ("draining", "unloading"):
            self.feed("drain", reason)
        self._settle()

    def _evict(self) -> None:
        if self.machine.current == "ready" and not len(self.sequences):
            self._unload(None, "The loader needs its memory for another model.")
        elif self.machine.current not in ("draining", "unloading", "unloaded"):
            self._wish.stay()

    def _awaits(self, ticket: int) -> bool:
        """Whether the loader answers the wish at hand, and not one that was withdrawn meanwhile."""
        return self.machine.current == "queued" and self._wish.is_at_hand(ticket)

    def _granted(self, ticket: int) -> None:
        if self._awaits(ticket):
            self.feed("granted", "It is its turn to load.")
        else:
            self._wish.withdraw(ticket)

    def _open(self) -> None:
        self._canary = None
        self._ready_since = self.house.clock.monotonic()
        self._wish.loaded()
        self._callers.settle("ready")
        for sequence in self.sequences.waiting():
            self._seat.send(self.sequences.insert(sequence.seq))

    def _closed(self) -> None:
        self._callers.settle("unloaded")
        if self._shut:
            self.sequences.refuse_waiting(SHUT)
            self._callers.refuse(SHUT)
        elif len(self.sequences) or self._callers.wait_for("ready"):
            self.feed("request", "Somebody waits for it.")
