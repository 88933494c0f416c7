"""The daemon itself: recover, serve, drain, stop."""

from statemachine import State

from lmx.machines.base import Deadline, Effect, Machine

BROKEN = 70
"""Exit code (EX_SOFTWARE): the daemon manager starts lmx again."""


class AskCrashLoop(Effect, frozen=True):
    """Record this start and learn whether models may be loaded."""


class Preload(Effect, frozen=True):
    """Load the models that are to be there from the start, one after the other."""


class DrainAdmission(Effect, frozen=True):
    """Take no new requests, let the running ones finish."""


class UnloadModels(Effect, frozen=True):
    """Whatever still runs is aborted by its model."""


class Exit(Effect, frozen=True):
    """Everything is down: end the process with this code."""

    code: int


class ServerMachine(Machine):
    """starting → recovering → serving → draining → unloading → stopped."""

    starting = State(initial=True)
    recovering = State()
    serving = State()
    draining = State()
    unloading = State()
    stopped = State(final=True)

    start = starting.to(recovering)
    recovered = recovering.to(serving)
    allowed = serving.to.itself(internal=True, on="preload")
    stop = (
        starting.to(unloading)
        | recovering.to(unloading)
        | serving.to(draining)
        | draining.to(unloading, on="hurry")
        | unloading.to(stopped, on="exit_at_once")
    )
    drained = draining.to(unloading)
    unloaded = unloading.to(stopped, on="exit_well")
    escalated = (
        starting.to(stopped, on="exit_broken")
        | recovering.to(stopped, on="exit_broken")
        | serving.to(stopped, on="exit_broken")
        | draining.to(stopped, on="exit_broken")
        | unloading.to(stopped, on="exit_broken")
    )
    timed_out = draining.to(unloading) | unloading.to(stopped, on="exit_at_once")

    deadlines = {"draining": Deadline(30.0, "timed_out"), "unloading": Deadline(8.0, "timed_out")}
    hurried_seconds = 0.5
    """What unloading may take for somebody who asked twice."""
    remembers = {"_drain_seconds": float, "_hurried": bool}

    def __init__(self, drain_seconds: float = 30.0) -> None:
        self._drain_seconds = drain_seconds
        self._hurried = False
        super().__init__()

    def deadline(self) -> Deadline | None:
        if self.current == "draining":
            return Deadline(self._drain_seconds, "timed_out")
        if self.current == "unloading" and self._hurried:
            return Deadline(self.hurried_seconds, "timed_out")
        return super().deadline()

    def hurry(self) -> None:
        self._hurried = True

    def preload(self) -> None:
        self.emit(Preload())

    def exit_well(self) -> None:
        self.emit(Exit(0))

    def exit_at_once(self) -> None:
        self.emit(Exit(0))

    def exit_broken(self) -> None:
        self.emit(Exit(BROKEN))

    def on_enter_recovering(self) -> None:
        self.emit(AskCrashLoop())

    def on_enter_serving(self, loads: bool) -> None:
        """In safe mode nothing loads by itself; `allowed` follows when it ends."""
        if loads:
            self.preload()

    def on_enter_draining(self) -> None:
        self.emit(DrainAdmission())

    def on_enter_unloading(self) -> None:
        self.emit(UnloadModels())
