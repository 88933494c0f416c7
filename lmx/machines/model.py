"""The life of one model: from unloaded over a canary to ready, and what happens when its worker dies."""

from typing import Literal

from statemachine import State

from lmx.machines import life
from lmx.machines.base import Deadline, Machine
from lmx.machines.probation import Probation
from lmx.machines.restart import RestartBudget, pause
from lmx.machines.types import Failure, FailureKind, Refusal, RefusalKind

STARTS = 4
"""Workers that could not be started, one after the other, until those who wait for one are told so."""
UNKILLABLE = (
    "The model's worker was killed, but the operating system does not let it end (a disk or a driver may hang): "
    "no other one can be started before it is gone."
)


def quarantine_refusal(reason: str) -> Refusal:
    text = f"The model is quarantined: {reason.rstrip('.')}. An admin can release it (lmx load)."
    return Refusal(RefusalKind.MODEL_QUARANTINED, text, 60.0)


class ModelMachine(Machine):
    """unloaded → queued → loading → warming → canary → ready → draining → unloading → unloaded, and the bad days."""

    unloaded = State(initial=True)
    queued = State()
    loading = State()
    warming = State()
    canary = State()
    ready = State()
    draining = State()
    unloading = State()
    backoff = State()
    failed = State()
    quarantined = State()
    killed = State()
    unkillable = State()

    request = unloaded.to(queued)
    granted = queued.to(loading)
    refused = queued.to(unloaded, on="refuse_waiting")
    forgone = queued.to(unloaded, on="withdraw")
    loaded = loading.to(warming) | unloading.to.itself(internal=True) | killed.to.itself(internal=True)
    load_failed = (
        loading.to(quarantined, cond="tried", on="kill_worker")
        | loading.to(failed)
        | unloading.to.itself(internal=True)
        | killed.to.itself(internal=True)
    )
    warmed = warming.to(canary) | unloading.to.itself(internal=True) | killed.to.itself(internal=True)
    warm_failed = warming.to(canary) | unloading.to.itself(internal=True) | killed.to.itself(internal=True)
    canary_passed = canary.to(ready) | unloading.to.itself(internal=True)
    canary_failed = (
        canary.to(quarantined, on="kill_worker")
        | ready.to(quarantined, on="kill_worker")
        | unloading.to.itself(internal=True)
    )
    drain = (
        ready.to(draining)
        | queued.to(unloaded, on="leave_queue")
        | loading.to(unloading)
        | warming.to(unloading)
        | canary.to(unloading)
        | killed.to(unloading)
        | unkillable.to(unloading)
        | backoff.to(unloaded, on="refuse_waiting")
        | failed.to(unloaded)
        | quarantined.to(unloaded, on="lift_quarantine")
    )
    drained = draining.to(unloading)
    worker_exited = (
        loading.to(quarantined, cond="spent")
        | loading.to(backoff)
        | warming.to(quarantined, cond="spent")
        | warming.to(backoff)
        | canary.to(quarantined, cond="spent")
        | canary.to(backoff)
        | ready.to(quarantined, cond="spent")
        | ready.to(backoff)
        | killed.to(unloaded, cond="unwanted", on="give_back")
        | killed.to(quarantined, cond="spent")
        | killed.to(backoff)
        | unkillable.to(unloaded, cond="unwanted", on="give_back")
        | unkillable.to(quarantined, cond="spent")
        | unkillable.to(backoff)
        | draining.to(unloaded, on="give_back")
        | unloading.to(unloaded, on="give_back")
        | failed.to.itself(internal=True, on="give_back")
        | quarantined.to.itself(internal=True, on="give_back")
        | queued.to.itself(internal=True, on="give_back")
        | unloaded.to.itself(internal=True, on="give_back")
    )
    not_started = loading.to(backoff)
    retry = backoff.to(queued)
    cooled = failed.to(unloaded)
    release = failed.to(queued) | quarantined.to(queued, on="lift_quarantine")
    half_open = quarantined.to(queued)
    timed_out = (
        queued.to(unloaded, on="leave_queue")
        | loading.to(killed, on="kill_stuck")
        | warming.to(killed, on="kill_stuck")
        | canary.to(killed, on="kill_stuck")
        | ready.to(killed, on="kill_stuck")
        | draining.to(unloading)
        | unloading.to(killed, on="kill_worker")
    )
    wedged = (
        loading.to(killed, on="kill_stuck")
        | warming.to(killed, on="kill_stuck")
        | canary.to(killed, on="kill_stuck")
        | ready.to(killed, on="kill_stuck")
        | draining.to.itself(internal=True, on="kill_stuck")
        | unloading.to(killed, on="kill_stuck")
    )
    survived = killed.to(unkillable) | queued.to(unkillable)

    deadlines = {
        "queued": Deadline(900.0, "timed_out"),
        "loading": Deadline(600.0, "timed_out"),
        "warming": Deadline(120.0, "timed_out"),
        "canary": Deadline(60.0, "timed_out"),
        "draining": Deadline(30.0, "timed_out"),
        "unloading": Deadline(10.0, "timed_out"),
        "killed": Deadline(10.0, "survived"),
        "failed": Deadline(30.0, "cooled"),
        "quarantined": Deadline(600.0, "half_open"),
    }
    remembers = {
        "budget": RestartBudget,
        "probation": Probation,
        "_refusal": Refusal | None,
        "unwanted": bool,
        "unstarted": int,
    }

    def __init__(self, state: str | None = None) -> None:
        """In another `state` than the first one no effects come of being there."""
        self.budget = RestartBudget()
        self.probation = Probation()
        self._refusal: Refusal | None = None
        self.unwanted = False
        """The worker is to go, and no other one is to come for it."""
        self.unstarted = 0
        """Workers in a row that could not be started."""
        super().__init__(start_value=state)

    @classmethod
    def in_quarantine(cls, reason: str) -> "ModelMachine":
        """One that was quarantined before the daemon started."""
        machine = cls("quarantined")
        machine._refusal = quarantine_refusal(reason)
        return machine

    def reborn(self, *, worker: bool) -> "ModelMachine":
        """The one that goes on when its actor has lost everything else; `worker`: one is being killed."""
        quarantined = self.current == "quarantined"
        heir = ModelMachine("quarantined" if quarantined else "unloading" if worker else "unloaded")
        heir.budget, heir.probation, heir._refusal = self.budget, self.probation, self._refusal
        heir.unwanted = worker
        return heir

    def answer(self) -> Literal["serve", "wait"] | Refusal:
        """What becomes of a request that comes now."""
        refuses = self.current in ("failed", "quarantined", "unkillable")
        if self._refusal is not None and (refuses or (self.current == "backoff" and self.unstarted >= STARTS)):
            return self._refusal
        return "serve" if self.current == "ready" else "wait"

    def spent(self, now: float, healthy: float) -> bool:
        return self.probation.on_trial or self.budget.spent(now, healthy)

    def tried(self) -> bool:
        return self.probation.on_trial

    def deadline(self) -> Deadline | None:
        if self.current == "quarantined":
            return Deadline(self.probation.seconds, "half_open")
        return super().deadline()

    def refuse_waiting(self, reason: str, refusal: Refusal | None = None) -> None:
        self.emit(life.RefuseWaiting(refusal or Refusal(RefusalKind.MODEL_UNLOADED, reason, 2.0)))

    def withdraw(self) -> None:
        self.emit(life.WithdrawFromLoader())

    def leave_queue(self, reason: str) -> None:
        self.emit(life.WithdrawFromLoader(), life.RefuseWaiting(Refusal(RefusalKind.MODEL_UNLOADED, reason, 2.0)))

    def kill_worker(self) -> None:
        self.emit(life.KillWorker())

    def kill_stuck(self, reason: str = "") -> None:
        self.emit(life.KillWorker(reason))

    def give_back(self, reason: str) -> None:
        self.emit(life.AbortRunning(Failure(FailureKind.WORKER_DIED, reason)), life.GiveBackMemory())

    def on_release(self) -> None:
        self.budget.forget()

    def on_half_open(self) -> None:
        self.probation.try_again()

    def lift_quarantine(self) -> None:
        self.probation = Probation()
        self.emit(life.ForgetQuarantine())

    def on_enter_unloaded(self) -> None:
        self.unstarted = 0
        self.emit(life.Closed())

    def on_enter_queued(self) -> None:
        self.unwanted = False
        self.emit(life.AcquireLoader())

    def on_enter_loading(self) -> None:
        self.emit(life.SpawnWorker())

    def on_enter_warming(self) -> None:
        self.unstarted = 0
        self.emit(life.WarmUp())

    def on_enter_canary(self) -> None:
        self.emit(life.RunCanary())

    def on_enter_ready(self) -> None:
        self.emit(life.Open())
        if self.probation.on_trial:
            self.lift_quarantine()

    def on_exit_ready(self) -> None:
        self.emit(life.StopTaking())

    def on_enter_unloading(self, reason: str = "") -> None:
        self.unwanted = True
        self.emit(life.AbortRunning(Failure(FailureKind.ABORTED, reason)), life.StopWorker())

    def on_worker_exited(self) -> None:
        self.unstarted = 0

    def on_enter_backoff(
        self, reason: str, chance: float, now: float = 0.0, healthy: float = 0.0, event: str = ""
    ) -> None:
        if event == "not_started":
            self._wait_to_start(reason, chance)
            return
        self.budget.was_healthy(healthy)
        delay = self.budget.take(now, chance)
        self.emit(life.Interrupt(Failure(FailureKind.WORKER_DIED, reason)), life.GiveBackMemory())
        self.emit(life.Schedule(delay, "retry"))

    def _wait_to_start(self, reason: str, chance: float) -> None:
        """What keeps a process from being started is no fault of the model's: it costs patience, but no budget."""
        self.unstarted += 1
        delay = pause(self.unstarted, chance)
        self.emit(life.GiveBackMemory(), life.Schedule(delay, "retry", restart=False))
        if self.unstarted >= STARTS:
            self._refusal = Refusal(RefusalKind.MODEL_UNLOADED, reason, delay)
            self.emit(life.RefuseWaiting(self._refusal))

    def on_enter_unkillable(self) -> None:
        self._refusal = Refusal(RefusalKind.MODEL_UNLOADED, UNKILLABLE, 30.0)
        self.emit(life.Interrupt(Failure(FailureKind.WORKER_DIED, UNKILLABLE)), life.RefuseWaiting(self._refusal))

    def on_enter_failed(self, reason: str, kind: RefusalKind = RefusalKind.MODEL_LOAD_FAILED) -> None:
        self._refusal = Refusal(kind, reason, 30.0)
        self.emit(life.KillWorker(), life.RefuseWaiting(self._refusal))

    def on_enter_quarantined(self, reason: str = "", event: str = "") -> None:
        self._refusal = quarantine_refusal(reason)
        self.probation.quarantined()
        failure = Failure(FailureKind.WORKER_DIED, reason, retry=False)
        self.emit(life.RememberQuarantine(reason), life.AbortRunning(failure), life.RefuseWaiting(self._refusal))
        self.emit(*([life.GiveBackMemory()] if event == "worker_exited" else []))
