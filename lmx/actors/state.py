"""The one writer of what lasts from one start of the daemon to the next."""

import os
from typing import assert_never

from msgspec.structs import replace

from lmx.actors.base import House, MachineActor
from lmx.actors.messages import journal, state, supervisor
from lmx.actors.messages.ref import Ref
from lmx.actors.ports import Clock, Store, Timers
from lmx.machines import lasting
from lmx.machines.base import Effect
from lmx.machines.lasting import RuntimeState
from lmx.machines.state_file import Save, Schedule, StateFileMachine

PAUSE = 0.1
"""Seconds between two writes, at least: what comes meanwhile is written together."""
LOG_SECONDS = 60.0
"""Between two complaints about the same disk."""


class Nobody:
    """Whom the state actor would tell what lasts: itself."""

    def tell(self, message: state.Message) -> None:
        raise AssertionError(f"the state actor was to tell itself {message!r}")


class StateActor(MachineActor[state.Message]):
    """It writes files in its own thread, where nobody waits for it. A disk that fails costs memory of the past only."""

    def __init__(
        self,
        store: Store,
        remembered: RuntimeState,
        journal: Ref[journal.Message],
        supervisor: Ref[supervisor.Message],
        timers: Timers,
        clock: Clock,
        recovered: str = "",
    ) -> None:
        """`remembered` is what the store held at the start, `recovered` what of that was damaged."""
        super().__init__("state", House(journal, Nobody(), supervisor, timers, clock), state.StateTimedOut)
        self._store = store
        self._recovered = recovered
        self._state = self._written = remembered
        self._written_at = self._logged_at = float("-inf")
        self._flush_is_due = False

    def make_machine(self) -> StateFileMachine:
        return StateFileMachine()

    def set_up(self) -> None:
        super().set_up()
        if self._recovered:
            self.log.warning("state_recovered", reason=self._recovered)
            self.note(state_recovered=self._recovered)

    def clean_up(self) -> None:
        """The last chance to write."""
        self._save()

    def receive(self, message: state.Message) -> None:
        match message:
            case state.Flush():
                self._flush_is_due = False
                self._write_soon()
            case state.StateTimedOut(generation, event):
                self.timed_out(generation, event)
            case state.StoppedCleanly():
                self._state = lasting.stopped(self._state, self.house.clock.time())
                self._save()
            case _:
                self._state = self._with(message)
                self._write_soon()

    def perform(self, effect: Effect) -> None:
        match effect:
            case Save():
                self._save()
            case Schedule(seconds, event):
                self.schedule(seconds, event)
            case _:
                raise TypeError(f"state: unknown effect {effect!r}")

    def _with(self, fact: "_Fact") -> RuntimeState:
        match fact:
            case state.Started(at):
                return lasting.started(self._state, at)
            case state.ModelLoading(model):
                return lasting.loading(self._state, model)
            case state.ModelLoaded(model):
                return lasting.loaded(self._state, model)
            case state.ModelUnloaded(model):
                return lasting.unloaded(self._state, model)
            case state.Quarantined(model, quarantine):
                return lasting.quarantined(self._state, model, quarantine)
            case state.Released(model):
                return lasting.released(self._state, model)
            case state.Sang(key, golden):
                return lasting.sang(self._state, key, golden)
            case _:
                assert_never(fact)

    def _write_soon(self) -> None:
        """At once, unless the last write was just now; while the disk fails its own retries are enough."""
        if self._flush_is_due or self.machine.current == "failing":
            return
        wait = self._written_at + PAUSE - self.house.clock.monotonic()
        if wait <= 0:
            self._save()
        else:
            self._flush_is_due = True
            self.house.timers.after(wait, self.myself, state.Flush())

    def _save(self) -> None:
        if self._state == self._written:
            return
        self._written_at = self.house.clock.monotonic()
        fresh = replace(self._state, generation=self._state.generation + 1, pid=os.getpid())
        try:
            self._store.save(fresh)
        except OSError as error:
            self._failed(f"What lmx remembers cannot be written: {error}.")
        else:
            self._state = self._written = fresh
            if self.machine.current == "failing":
                self.note(state_error=None)
                self.feed("written", "The disk takes writes again.")

    def _failed(self, why: str) -> None:
        now = self.house.clock.monotonic()
        if now - self._logged_at >= LOG_SECONDS:
            self._logged_at = now
            self.log.warning("state_error", error=why)
        self.note(state_error=why)
        self.feed("failed", why)


_Fact = (
    state.Started | state.ModelLoading | state.ModelLoaded | state.ModelUnloaded
    | state.Quarantined | state.Released | state.Sang
)  # fmt: skip
