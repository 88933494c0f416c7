"""The daemon's own life: recover, serve, drain, stop."""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import assert_never

from lmx.actors.base import House, MachineActor
from lmx.actors.messages import admission, caller, crash_loop, model, server
from lmx.actors.messages.ref import Ref
from lmx.machines.base import Effect
from lmx.machines.server import BROKEN, AskCrashLoop, DrainAdmission, Exit, Preload, ServerMachine, UnloadModels


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
    ) -> None:
        """`exit(code)` is called once, when everything is down."""
        super().__init__("server", house, server.StateTimedOut)
        self._admission = admission
        self._crash_loop = crash_loop
        self._models = models
        self._preload = preload
        self._drain_seconds = drain_seconds
        self._exit = exit
        self._loaded: set[str] = set()

    def make_machine(self) -> ServerMachine:
        return ServerMachine(self._drain_seconds)

    def receive(self, message: server.Message) -> None:
        match message:
            case server.Start():
                self.feed("start")
            case server.Recovered(safe_mode):
                if self.machine.current == "recovering":
                    self.feed("recovered", safe_mode)
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
                for name in self._preload:
                    self._models[name].tell(model.Load())
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
