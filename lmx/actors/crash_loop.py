"""Tells the state actor of each start; too many of them without a clean stop end in safe mode."""

from collections.abc import Sequence
from typing import assert_never

from lmx.actors.base import House, MachineActor
from lmx.actors.messages import crash_loop, loader, server, state
from lmx.actors.messages.ref import Ref
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
    def __init__(self, house: House, starts: Sequence[float], loader: Ref[loader.Message]) -> None:
        """`starts` are the earlier ones since the last clean stop, in unix time."""
        super().__init__("crash_loop", house, crash_loop.StateTimedOut)
        self._starts = tuple(starts)
        self._loader = loader
        self._server: Ref[server.Message] | None = None
        self._reason = ""

    def make_machine(self) -> CrashLoopMachine:
        return CrashLoopMachine()

    def set_up(self) -> None:
        """A safe mode that a predecessor began ends with it: nobody would end it any more."""
        super().set_up()
        if self._reason:
            self.perform(AllowLoads())

    def lost(self, message: crash_loop.Message) -> None:
        """The server waits for this answer, and serves nothing before it has it."""
        if isinstance(message, crash_loop.Started):
            message.reply_to.tell(server.Recovered(""))

    def receive(self, message: crash_loop.Message) -> None:
        match message:
            case crash_loop.Started(server_ref):
                self._server = server_ref
                self._started()
                server_ref.tell(server.Recovered(self._reason))
            case crash_loop.StoppedCleanly():
                self.house.state.tell(state.StoppedCleanly())
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
                if self._server is not None:
                    self._server.tell(server.Recovered(""))
            case _:
                raise TypeError(f"crash loop: unknown effect {effect!r}")

    def _started(self) -> None:
        now = self.house.clock.time()
        self.house.state.tell(state.Started(now))
        count = self.decide(unclean_starts, starts=(*self._starts, now), now=now)
        if count >= LIMIT:
            self._reason = (
                f"lmx started {count} times in {WINDOW:.0f} s without a clean stop: it is in safe mode and loads"
                " models only when an admin asks for it (lmx load MODEL)."
            )
        self.feed("started", self._reason, unclean_starts=count)
        self.note(unclean_starts=count)
