"""Decides which models live: memory ledger, eviction, one load at a time."""

from collections import deque
from collections.abc import Mapping
from typing import assert_never

from lmx.actors.base import House, MachineActor
from lmx.actors.messages import loader, model
from lmx.actors.messages.ref import Ref
from lmx.actors.ports import MemoryGauge
from lmx.machines import memory
from lmx.machines.base import Effect
from lmx.machines.loader import Evict, Grant, LoaderMachine, Next, Plan, Refuse
from lmx.machines.types import Refusal, RefusalKind

GB = 1e9


class LoaderActor(MachineActor[loader.Message]):
    def __init__(
        self, house: House, gauge: MemoryGauge, share: float, models: Mapping[str, Ref[model.Message]]
    ) -> None:
        """`share` of the machine's memory is what all `models` together may hold."""
        super().__init__("loader", house, loader.StateTimedOut)
        self._gauge = gauge
        self._share = share
        self._models = models
        self._held: dict[str, int] = {}
        """Bytes granted to each loaded model, longest unused first."""
        self._safe_mode = ""

    def make_machine(self) -> LoaderMachine:
        return LoaderMachine()

    def set_up(self) -> None:
        self._queue: deque[loader.Acquire] = deque()
        self._current: loader.Acquire | None = None
        self._in_use: set[str] = set()
        """Models that refused to go for the load at hand."""
        self._leaving: set[str] = set()
        self._plan: memory.Plan = memory.Fits()
        super().set_up()
        self.note(safe_mode=self._safe_mode)

    def clean_up(self) -> None:
        """Who waits asks again; what is granted stays granted, for it is in use."""
        text = "lmx had an internal error while the model waited for its turn to load."
        waiting = list(self._queue)
        if self._current is not None and self.machine.current in ("reserving", "evicting"):
            waiting.append(self._current)
        for wish in waiting:
            wish.reply_to.tell(model.Refused(wish.ticket, Refusal(RefusalKind.MODEL_UNLOADED, text, 2.0)))

    def receive(self, message: loader.Message) -> None:
        match message:
            case loader.Acquire():
                self._queue.append(message)
                self._next()
            case loader.Withdraw(name, ticket):
                self._withdraw(name, ticket)
            case loader.Loaded(name):
                self._touch(name)
                self._end_turn(name, "loaded")
            case loader.Released(name):
                self._released(name)
            case loader.BecameIdle(name):
                self._touch(name)
            case loader.EvictionRefused(name):
                self._eviction_refused(name)
            case loader.SetSafeMode(reason):
                self._safe_mode = reason
                self.note(safe_mode=reason)
            case loader.StateTimedOut(generation, event):
                self.timed_out(generation, event)
            case _:
                assert_never(message)

    def perform(self, effect: Effect) -> None:
        match effect:
            case Plan():
                self._decide()
            case Evict():
                self._ask_to_leave()
            case Grant():
                assert self._current is not None
                self._held[self._current.model] = self._current.need_bytes
                self._current.reply_to.tell(model.Granted(self._current.ticket))
            case Refuse():
                self._refuse()
            case Next():
                self._current = None
                self._in_use.clear()
                self._leaving.clear()
                self._next()
            case _:
                raise TypeError(f"loader: unknown effect {effect!r}")

    def _next(self) -> None:
        if self._current is None and self._queue:
            self._current = self._queue.popleft()
            self.feed("acquire", f"{self._current.model} asks for {self._current.need_bytes / GB:.2f} GB")

    def _decide(self) -> None:
        assert self._current is not None
        self._plan = memory.plan(
            need=self._current.need_bytes,
            free=self._gauge.free(),
            budget=int(self._gauge.total() * self._share),
            held=self._held,
            idle_first=[name for name in self._held if name not in self._in_use],
        )
        if self._safe_mode and not self._current.by_admin:
            self.feed("refuse", self._safe_mode)
        elif isinstance(self._plan, memory.Fits):
            self.feed("fits", f"{self._current.model} may load")
        elif isinstance(self._plan, memory.Evict):
            self.feed("evict", f"{self._current.model} needs the memory of {', '.join(self._plan.models)}")
        else:
            self.feed("refuse", self._figures(self._plan))

    def _ask_to_leave(self) -> None:
        assert isinstance(self._plan, memory.Evict)
        self._leaving = set(self._plan.models)
        for name in self._plan.models:
            self._models[name].tell(model.Evict())

    def _figures(self, plan: memory.TooBig) -> str:
        return (
            f"It needs about {plan.need_bytes / GB:.2f} GB; {plan.free_bytes / GB:.2f} GB could be free"
            f" of the {plan.budget_bytes / GB:.2f} GB that lmx may use."
        )

    def _refuse(self) -> None:
        assert self._current is not None
        if self._safe_mode and not self._current.by_admin:
            refusal = Refusal(RefusalKind.SAFE_MODE, self._safe_mode, 60.0)
        elif isinstance(self._plan, memory.TooBig):
            refusal = Refusal(RefusalKind.INSUFFICIENT_MEMORY, self._figures(self._plan), 10.0)
        else:
            refusal = Refusal(RefusalKind.INSUFFICIENT_MEMORY, "Other models did not leave in time.", 10.0)
        self._current.reply_to.tell(model.Refused(self._current.ticket, refusal))

    def _touch(self, name: str) -> None:
        if name in self._held:
            self._held[name] = self._held.pop(name)

    def _end_turn(self, name: str, event: str) -> None:
        if self._current is not None and self._current.model == name and self.machine.current == "spawning":
            self.feed(event, name)

    def _released(self, name: str) -> None:
        self._held.pop(name, None)
        self._end_turn(name, "released")
        if self.machine.current == "evicting" and name in self._leaving:
            self.feed("evicted", f"{name} is gone")

    def _eviction_refused(self, name: str) -> None:
        self._in_use.add(name)
        if self.machine.current == "evicting":
            self.feed("eviction_refused", f"{name} is in use")

    def _withdraw(self, name: str, ticket: int) -> None:
        self._queue = deque(wish for wish in self._queue if (wish.model, wish.ticket) != (name, ticket))
        current = self._current
        if current is None or (current.model, current.ticket) != (name, ticket):
            return
        if self.machine.current == "spawning":
            self._held.pop(name, None)
        if self.machine.current != "settling":
            self.feed("withdrawn", f"{name} no longer waits")
