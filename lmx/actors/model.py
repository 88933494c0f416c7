"""One model: its machine, its worker, its sequences."""

from typing import assert_never

from msgspec.structs import replace

from lmx.actors import metrics
from lmx.actors.housing import Housing
from lmx.actors.messages import model, state
from lmx.machines import frames, life
from lmx.machines.base import Effect


class ModelActor(Housing):
    """What it is told, what its machine wants done, and what its worker says."""

    def receive(self, message: model.Message) -> None:
        match message:
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
            case model.Lease(by, held):
                self._wish.leased(by, held)
            case model.Retire(reply_to):
                self._retiring += (reply_to,)
                self._settle()
            case model.Adapt():
                self._adapt(message)
            case model.Shut(reply_to):
                self._shut_down(reply_to)
            case model.Evict():
                self._evict()
            case model.TrimMemory():
                self._wish.trimmed()
                self._seat.send(frames.TrimCaches())
            case model.Recycle(reason):
                self._recycle(reason)
            case model.Prove():
                if self._is_idle():
                    self._canary.sing_idle(self._sang, brief=True)
            case model.Watch(watcher):
                self._turnstile.watched_by(watcher)
            case model.Forgo():
                self._forgo()
            case _:
                self._learn(message)

    def _learn(self, fact: model.Fact) -> None:
        match fact:
            case model.Reported(number, report):
                if self._seat.holds(number):
                    self._reported(report)
            case model.WorkerExited():
                self._exited(fact)
            case model.Granted(ticket):
                self._granted(ticket)
            case model.Refused(ticket, refusal):
                if self._awaits(ticket):
                    self.feed("refused", refusal.message, refusal=refusal)
            case model.Weighed():
                if (problem := self._wish.weighed(fact, self.myself)) and self.machine.current == "queued":
                    self.feed("refused", problem.message, refusal=problem)
            case model.KeptLongEnough(number):
                if self._keeping.over(number) and self._is_idle():
                    self._unload(None, "Nobody has asked for it for as long as it is to be kept.")
            case model.Rested(opening):
                if self.machine.current == "ready" and self._canary.is_due(opening, idle=not len(self.sequences)):
                    self._canary.sing_idle(self._sang)
            case model.SongOverdue(run):
                if self._is_idle() and self._canary.is_overdue(run):
                    self.feed("timed_out", "It was idle, and its canary did not end in time.")
            case model.PulseDue(worker):
                if self._seat.holds(worker):
                    self._look()
            case model.StateTimedOut(generation, event):
                if event != "survived" or self._seat.is_taken:
                    self.timed_out(generation, event)
            case _:
                assert_never(fact)

    def perform(self, effect: Effect) -> None:
        match effect:
            case life.AcquireLoader():
                self._ask_loader()
            case life.WithdrawFromLoader():
                self._wish.withdraw()
            case life.GiveBackMemory():
                self._wish.give_back()
            case life.AbortRunning(failure):
                self.sequences.fail(failure, begun_only=True)
                self._note_in_flight()
            case life.Interrupt(failure):
                self._interrupt(failure)
            case life.RefuseWaiting(refusal):
                self._turnstile.refuse(refusal)
                self.sequences.refuse_waiting(refusal)
                (self._callers.abandon if self.machine.current == "unkillable" else self._callers.refuse)(refusal)
                self._note_in_flight()
            case life.Open():
                self._open()
            case life.StopTaking():
                self._ready_until = self.house.clock.monotonic()
                self._turnstile.close()
            case life.Closed():
                self._closed()
            case life.Schedule(seconds, event, restart):
                self._restarts += restart
                self.note(restarts=self._restarts, retry_at=self.house.clock.time() + seconds)
                self.schedule(seconds, event)
            case life.SpawnWorker():
                self._spawn()
            case life.RunCanary():
                self._canary.sing(self._sang)
            case life.RememberQuarantine(reason):
                self._ward.began(reason)
            case life.ForgetQuarantine():
                if not self._shut:  # the end of the daemon is not that of the quarantine
                    self._ward.ended()
            case _:
                self._seat.perform(effect)

    def _spawn(self) -> None:
        self._ward.launched(self.spec)
        self.house.state.tell(state.ModelLoading(self.spec.name))
        try:
            self._facts.started(self._seat.take(self.myself))
            self._pulse.begin()
        except OSError as error:
            self._not_started(f"The worker process could not be started: {error}.")
        else:
            self._seat.send(frames.Load(self.spec))

    def _look(self) -> None:
        stuck, served = self._pulse.tick(self.machine.current), self._served()
        self._deaths.healthy(served)
        if self._pulse.overslept:
            self._give_time(self._pulse.overslept)
        if stuck:
            self.feed("wedged", stuck)
        elif self._is_idle() and (reason := self._slots.why_recycle(served)):
            self._recycle(reason)

    def _give_time(self, seconds: float) -> None:
        """The main process did not run, and perhaps nobody did: that is no time of those who have a deadline."""
        self._canary.overslept(seconds)
        if self.machine.current in ("loading", "warming", "canary", "draining", "killed"):
            self.extend_deadline(seconds)

    def _reported(self, report: frames.Report) -> None:
        self._pulse.hear(report)
        match report:
            case frames.Step() | frames.Accepted() | frames.Rejected() | frames.Embedded() | frames.Rendered():
                self._canary.hear(report)
                if self.sequences.hear(report):
                    self._settle()
            case frames.Loaded(info):
                self._facts.loaded(info)
                self._canary.loaded(self.spec, info)
                self._turnstile.slots = info.slots
                self.feed("loaded", "The weights are in memory.")
            case frames.LoadFailed(text, kind):
                self.feed("load_failed", text, kind=kind)
            case frames.Warmed(error):
                self.feed("warm_failed" if error else "warmed", error or "")
            case frames.LoadProgress() | frames.Idled() | frames.Telemetry():
                self._facts.hear(report)
                if isinstance(report, frames.Telemetry):
                    self._measured(report)
            case frames.Hello() | frames.Broken() | frames.Beat() | frames.Probed():
                pass  # WorkerProcess checks the first and ends with the second; the others are the pulse's
            case _:
                assert_never(report)

    def _measured(self, telemetry: frames.Telemetry) -> None:
        self._wish.measured(telemetry.memory.process)
        if self._is_idle() and (reason := self._keeping.drift(telemetry, self._served())):
            self._recycle(reason)

    def _sang(self, error: str) -> None:
        self.sequences.doubtful = False
        state = self.machine.current
        if state == "canary" or (state == "ready" and error):
            self.feed("canary_failed" if error else "canary_passed", error or "The canary sang.")

    def _exited(self, exit: model.WorkerExited) -> None:
        if self._seat.holds(exit.worker):
            waits = self.machine.current == "queued"
            exit = self._seat.leave(exit)
            self._canary.closed()
            self._keeping.forget()
            self._facts.gone(exit.detail)
            self._died(exit.cause, exit.detail)
            if waits:
                self._ask_loader()

    def _died(self, cause: model.Cause, detail: str) -> None:
        metrics.WORKER_EXITS.labels(self.spec.name, cause).inc()
        state, served = self.machine.current, self._served()
        self._ready_since = None
        if cause == "unstarted" and state == "loading":
            self._not_started(detail)
            return
        if not self.machine.unwanted and state not in ("failed", "quarantined", "queued", "unloaded"):
            self._deaths.died(cause, detail)
        oom = cause == "oom" and state in ("ready", "draining")  # not again at the same size
        self.spec = replace(self.spec, slots=self._slots.after(oom=oom, served=served))
        now, chance = self.house.clock.monotonic(), self._random.random()
        self.feed("worker_exited", detail, now=now, chance=chance, healthy=served)

    def _not_started(self, detail: str) -> None:
        if not self.machine.unstarted:
            self.log.warning("worker_not_started", model=self.spec.name, reason=detail)
        self.feed("not_started", detail, chance=self._random.random())
