"""The life of one model: from unloaded over a canary to ready, and what happens when its worker dies."""

from typing import Literal

from statemachine import State

from lmx.machines.base import Deadline, Effect, Machine
from lmx.machines.probation import Probation
from lmx.machines.restart import RestartBudget
from lmx.machines.types import Failure, FailureKind, Refusal, RefusalKind


class AcquireLoader(Effect, frozen=True):
    """Ask the loader for a turn and for memory."""


class WithdrawFromLoader(Effect, frozen=True):
    """No longer wait for the turn."""


class SpawnWorker(Effect, frozen=True):
    """Start a worker process and let it load."""


class WarmUp(Effect, frozen=True):
    """Let the worker compile what it compiles lazily."""


class RunCanary(Effect, frozen=True):
    """Let the model answer a known prompt."""


class Open(Effect, frozen=True):
    """The model answers: give it everything that waits."""


class StopTaking(Effect, frozen=True):
    """The model answers no more: whoever comes from now on waits."""


class StopWorker(Effect, frozen=True):
    """Ask the worker to exit."""


class KillWorker(Effect, frozen=True):
    """End the worker now; its exit follows as an event of its own."""

    stuck: str = ""
    """Why it counts as stuck, as a sentence; empty = it is not wanted any more."""


class AbortRunning(Effect, frozen=True):
    """End every sequence that the worker holds."""

    failure: Failure


class Interrupt(Effect, frozen=True):
    """The worker died: what it held goes on in the next one, or ends with `failure`."""

    failure: Failure


class RefuseWaiting(Effect, frozen=True):
    """Refuse everything that waits for the model."""

    refusal: Refusal


class GiveBackMemory(Effect, frozen=True):
    """Tell the loader that the worker and its memory are gone."""


class Closed(Effect, frozen=True):
    """The model is unloaded: tell those who asked for it, and start again if somebody waits."""


class RememberQuarantine(Effect, frozen=True):
    """The quarantine is to outlast the daemon."""

    reason: str


class ForgetQuarantine(Effect, frozen=True):
    """The model is in quarantine no more."""


class Schedule(Effect, frozen=True):
    """Feed `event` after `seconds`, unless the state is left before."""

    seconds: float
    event: str


def quarantine_refusal(reason: str) -> Refusal:
    text = f"The model is quarantined: {reason} An admin can release it (lmx load)."
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

    request = unloaded.to(queued)
    granted = queued.to(loading)
    refused = queued.to(unloaded, on="refuse_waiting")
    forgone = queued.to(unloaded, on="withdraw")
    loaded = loading.to(warming) | unloading.to.itself(internal=True)
    load_failed = (
        loading.to(quarantined, cond="tried", on="kill_worker")
        | loading.to(failed)
        | unloading.to.itself(internal=True)
    )
    warmed = warming.to(canary) | unloading.to.itself(internal=True)
    warm_failed = warming.to(canary) | unloading.to.itself(internal=True)
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
        | draining.to(unloaded, on="give_back")
        | unloading.to(unloaded, on="give_back")
        | failed.to.itself(internal=True, on="give_back")
        | quarantined.to.itself(internal=True, on="give_back")
        | queued.to.itself(internal=True, on="give_back")
        | unloaded.to.itself(internal=True, on="give_back")
    )
    retry = backoff.to(queued)
    cooled = failed.to(unloaded)
    release = failed.to(queued) | quarantined.to(queued, on="lift_quarantine")
    half_open = quarantined.to(queued)
    timed_out = (
        queued.to(unloaded, on="leave_queue")
        | loading.to.itself(internal=True, on="kill_stuck")
        | warming.to.itself(internal=True, on="kill_stuck")
        | canary.to.itself(internal=True, on="kill_stuck")
        | ready.to.itself(internal=True, on="kill_stuck")
        | draining.to(unloading)
        | unloading.to.itself(internal=True, on="kill_worker")
    )
    wedged = (
        loading.to.itself(internal=True, on="kill_stuck")
        | warming.to.itself(internal=True, on="kill_stuck")
        | canary.to.itself(internal=True, on="kill_stuck")
        | ready.to.itself(internal=True, on="kill_stuck")
        | draining.to.itself(internal=True, on="kill_stuck")
        | unloading.to.itself(internal=True, on="kill_stuck")
    )

    deadlines = {
        "queued": Deadline(900.0, "timed_out"),
        "loading": Deadline(600.0, "timed_out"),
        "warming": Deadline(120.0, "timed_out"),
        "canary": Deadline(60.0, "timed_out"),
        "draining": Deadline(30.0, "timed_out"),
        "unloading": Deadline(10.0, "timed_out"),
        "failed": Deadline(30.0, "cooled"),
        "quarantined": Deadline(600.0, "half_open"),
    }
    remembers = {"budget": RestartBudget, "probation": Probation, "_refusal": Refusal | None}

    def __init__(self, state: str | None = None) -> None:
        """In another `state` than the first one no effects come of being there."""
        self.budget = RestartBudget()
        self.probation = Probation()
        self._refusal: Refusal | None = None
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
        return heir

    def answer(self) -> Literal["serve", "wait"] | Refusal:
        """What becomes of a request that comes now."""
        if self.current in ("failed", "quarantined") and self._refusal is not None:
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
        self.emit(RefuseWaiting(refusal or Refusal(RefusalKind.MODEL_UNLOADED, reason, 2.0)))

    def withdraw(self) -> None:
        self.emit(WithdrawFromLoader())

    def leave_queue(self, reason: str) -> None:
        self.emit(WithdrawFromLoader(), RefuseWaiting(Refusal(RefusalKind.MODEL_UNLOADED, reason, 2.0)))

    def kill_worker(self) -> None:
        self.emit(KillWorker())

    def kill_stuck(self, reason: str = "") -> None:
        self.emit(KillWorker(reason))

    def give_back(self, reason: str) -> None:
        self.emit(AbortRunning(Failure(FailureKind.WORKER_DIED, reason)), GiveBackMemory())

    def on_release(self) -> None:
        self.budget.forget()

    def on_half_open(self) -> None:
        self.probation.try_again()

    def lift_quarantine(self) -> None:
        self.probation = Probation()
        self.emit(ForgetQuarantine())

    def on_enter_unloaded(self) -> None:
        self.emit(Closed())

    def on_enter_queued(self) -> None:
        self.emit(AcquireLoader())

    def on_enter_loading(self) -> None:
        self.emit(SpawnWorker())

    def on_enter_warming(self) -> None:
        self.emit(WarmUp())

    def on_enter_canary(self) -> None:
        self.emit(RunCanary())

    def on_enter_ready(self) -> None:
        self.emit(Open())
        if self.probation.on_trial:
            self.lift_quarantine()

    def on_exit_ready(self) -> None:
        self.emit(StopTaking())

    def on_enter_unloading(self, reason: str = "") -> None:
        self.emit(AbortRunning(Failure(FailureKind.ABORTED, reason)), StopWorker())

    def on_enter_backoff(self, reason: str, now: float, chance: float, healthy: float) -> None:
        self.budget.was_healthy(healthy)
        delay = self.budget.take(now, chance)
        self.emit(Interrupt(Failure(FailureKind.WORKER_DIED, reason)), GiveBackMemory(), Schedule(delay, "retry"))

    def on_enter_failed(self, reason: str, kind: RefusalKind = RefusalKind.MODEL_LOAD_FAILED) -> None:
        self._refusal = Refusal(kind, reason, 30.0)
        self.emit(KillWorker(), RefuseWaiting(self._refusal))

    def on_enter_quarantined(self, reason: str = "", event: str = "") -> None:
        self._refusal = quarantine_refusal(reason)
        self.probation.quarantined()
        self.emit(RememberQuarantine(reason))
        self.emit(AbortRunning(Failure(FailureKind.WORKER_DIED, reason, retry=False)), RefuseWaiting(self._refusal))
        self.emit(*([GiveBackMemory()] if event == "worker_exited" else []))
