"""Remembers when the daemon started; too many starts without a clean stop end in safe mode."""

from typing import assert_never

from lmx.actors.base import House, MachineActor
from lmx.actors.messages import crash_loop, loader, server
from lmx.actors.messages.ref import Ref
from lmx.actors.ports import StartHistory
from lmx.machines.base import Effect
from lmx.machines.crash_loop import (
    LIMIT,
    WINDOW,
    AllowLoads,
    CrashLoopMachine,
    ForbidLoads,
    unclean_starts,
)


class CrashLoopActor(MachineActor[crash_loop.Message]):
    """The one actor that touches a file: nobody waits in its inbox but the server's start."""

    def __init__(self, house: House, history: StartHistory, loader: Ref[loader.Message]) -> None:
        super().__init__("crash_loop", house, crash_loop.StateTimedOut)
        self._history = history
        self._loader = loader
        self._reason = ""

    def make_machine(self) -> CrashLoopMachine:
        return CrashLoopMachine()

    def receive(self, message: crash_loop.Message) -> None:
        match message:
            case crash_loop.Started(server_ref):
                self._started()
                server_ref.tell(server.Recovered(self._reason))
            case crash_loop.StoppedCleanly():
                self._write([])
            case crash_loop.Release(reply_to):
                if self.machine.current == "safe_mode":
                    self.feed("release", "An admin ended safe mode.")
                reply_to.tell(crash_loop.Released(self.machine.current))
            case crash_loop.StateTimedOut(generation, event):
                self.timed_out(generation, event)
            case _:
                assert_never(message)

    def perform(self, effect: Effect) -> None:
        match effect:
            case ForbidLoads():
                self._loader.tell(loader.SetSafeMode(self._reason))
            case AllowLoads():
                self._reason = ""
                self._loader.tell(loader.SetSafeMode(""))
            case _:
                raise TypeError(f"crash loop: unknown effect {effect!r}")

    def _started(self) -> None:
        now = self.house.clock.time()
        starts = [start for start in self._read() if now - start <= WINDOW] + [now]
        self._write(starts)
        count = unclean_starts(starts, now)
        if count >= LIMIT:
            self._reason = (
                f"lmx started {count} times in {WINDOW:.0f} s without a clean stop: it is in safe mode and loads"
                " models only when an admin asks for it (lmx load MODEL)."
            )
        self.feed("started", self._reason, unclean_starts=count)
        self.note(unclean_starts=count)

    def _read(self) -> list[float]:
        try:
            return self._history.read()
        except OSError as error:
            self.log.warning("start_history_unreadable", error=str(error))
            return []

    def _write(self, starts: list[float]) -> None:
        try:
            self._history.write(starts)
        except OSError as error:
            self.log.warning("start_history_unwritable", error=str(error))
