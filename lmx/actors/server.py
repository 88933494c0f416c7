"""The daemon's own life: recover, serve, drain, stop."""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import assert_never

from lmx.actors.base import House, MachineActor
from lmx.actors.messages import admission, caller, crash_loop, model, server
from lmx.actors.messages.ref import Ref
from lmx.actors.preloads import Preloads
from lmx.machines.base import Effect
from lmx.machines.crash_loop import restored, suspect
from lmx.machines.lasting import RuntimeState
from lmx.machines.server import BROKEN, AskCrashLoop, DrainAdmission, Exit, Preload, ServerMachine, UnloadModels

NOTHING = RuntimeState()


class ServerActor(MachineActor[server.Message]):
    def __init__(
        self,
        house: House,
        admission: Ref[admission.Message],
        crash_loop: Ref[crash_loop.Message],
        models: Mapping[str, Ref[model.Message]],
        preload: Sequence[str],
        drain_seconds: float,
        exit: Callable[[int], None],
        remembered: RuntimeState = NOTHING,
        panic: float | None = None,
    ) -> None:
        """`preload` is loaded at the start, and then what an unclean stop ended, as it is `remembered`.

        `panic` is the unix time of the machine's latest kernel panic. `exit(code)` is called once, when everything is
        down.
        """
        super().__init__("server", house, server.StateTimedOut)
        self._admission = admission
        self._crash_loop = crash_loop
        self._models = models
        self._preload = tuple(preload)
        self._remembered = remembered
        self._panic = panic
        self._preloads = Preloads(house, models)
        self._drain_seconds = drain_seconds
        self._exit = exit
        self._loaded: set[str] = set()

    def make_machine(self) -> ServerMachine:
        return ServerMachine(self._drain_seconds)

    def receive(self, message: server.Message) -> None:
        match message:
            case server.Start():
                if self.machine.current == "starting":
                    self.feed("start")
            case server.Recovered(safe_mode):
                self._recovered(safe_mode)
            case server.PreloadEnded(name):
                if self.machine.current == "serving":
                    self._preloads.ended(name, self.myself)
            case server.Stop(reason):
                self._asked_to_stop(reason)
            case server.AdmissionDrained():
                if self.machine.current == "draining":
                    self.feed("drained", "nothing is in flight")
            case caller.Settled(name) | caller.Refused(name):
                self._unloaded(name)
            case server.Escalated(reason):
                self._escalated(reason)
            case server.StateTimedOut(generation, event):
                self.timed_out(generation, event)
            case _:
                assert_never(message)

    def perform(self, effect: Effect) -> None:
        match effect:
            case AskCrashLoop():
                self._crash_loop.tell(crash_loop.Started(self.myself))
            case Preload():
                self._preloads.begin(self.myself)
            case DrainAdmission():
                self._admission.tell(admission.Drain(self.myself))
            case UnloadModels():
                self._unload_models()
            case Exit(code):
                self._finish(code)
            case _:
                raise TypeError(f"server: unknown effect {effect!r}")

    def _start_over(self, message: server.Message, error: BaseException) -> None:
        """A server that has forgotten what it was doing cannot go on: nobody would tell it to start again."""
        super()._start_over(message, error)
        self.receive(server.Escalated(f"actor {self.name} crashed: {error!r}"))

    def on_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().on_failure(exception_type, exception_value, traceback)
        self._exit(BROKEN)

    def _recovered(self, safe_mode: str) -> None:
        """Told again when safe mode ends."""
        if self.machine.current == "recovering":
            self._plan()
            if safe_mode:
                self._preloads.hold_back(safe_mode)
            self.feed("recovered", safe_mode, loads=not safe_mode)
        elif self.machine.current == "serving":
            self.feed("allowed", "Safe mode is over.")

    def _plan(self) -> None:
        past = self._remembered
        last_start = past.starts[-1] if past.starts else None
        blamed = self.decide(suspect, latest=past.latest, last_start=last_start, panic=self._panic)
        self._preloads.plan(self.decide(restored, preload=self._preload, loaded=past.loaded, suspect=blamed))
        if blamed in self._models:
            text = "The machine's kernel panicked when it was the last one loaded: it loads when somebody asks for it."
            self._preloads.hold_back(text, [blamed])
            self.log.warning("held_back", model=blamed, reason=text)

    def _asked_to_stop(self, reason: str) -> None:
        if self.machine.current != "stopped":
            self.feed("stop", reason)

    def _escalated(self, reason: str) -> None:
        self.log.critical("escalated", reason=reason)
        if self.machine.current != "stopped":
            self.feed("escalated", reason)

    def _unload_models(self) -> None:
        self._loaded = set(self._models)
        for ref in self._models.values():
            ref.tell(model.Shut(self.myself))

    def _unloaded(self, name: str) -> None:
        self._loaded.discard(name)
        if self.machine.current == "unloading" and not self._loaded:
            self.feed("unloaded", "all models are unloaded")

    def _finish(self, code: int) -> None:
        if code == 0:
            self._crash_loop.tell(crash_loop.StoppedCleanly())
        self._exit(code)
