"""Decides which models live: memory ledger, eviction, one load at a time."""

from collections import deque
from collections.abc import Mapping
from typing import TypedDict, assert_never

from lmx.actors.base import House, MachineActor
from lmx.actors.ledger import Ledger
from lmx.actors.messages import loader, model
from lmx.actors.messages.ref import Ref
from lmx.actors.ports import MemoryGauge
from lmx.machines import memory
from lmx.machines.base import Effect
from lmx.machines.loader import Evict, Grant, LoaderMachine, Look, Next, Plan, Refuse
from lmx.machines.types import Refusal, RefusalKind

GB = 1e9
LOOK_SECONDS = 0.1
PRESSURE_RETRY = 10.0
PRELOAD = (
    "It was to be ready from the start, but nobody goes for it then: it is loaded by its first request or an admin."
)


class Needs(TypedDict):
    """What memory.plan is asked."""

    need: int
    free: int
    budget: int
    held: dict[str, int]
    idle_first: list[str]


class LoaderActor(MachineActor[loader.Message]):
    def __init__(
        self, house: House, gauge: MemoryGauge, share: float, models: Mapping[str, Ref[model.Message]]
    ) -> None:
        """`share` of the machine's memory is what all `models` together may hold."""
        super().__init__("loader", house, loader.StateTimedOut)
        self._models = models
        self._ledger = Ledger(gauge, share, house.clock)
        self._safe_mode = ""
        self._pressure = ""
        self._no_loads()

    def make_machine(self) -> LoaderMachine:
        return LoaderMachine()

    def set_up(self) -> None:
        self._queue: deque[loader.Acquire] = deque()
        self._current: loader.Acquire | None = None
        self._in_use: set[str] = set()
        """Models that refused to go for the load at hand."""
        self._leaving: set[str] = set()
        self._waited = False
        """For memory to come back, since the last time that somebody left."""
        self._plan: memory.Plan = memory.Fits()
        super().set_up()
        self.note(safe_mode=self._safe_mode)

    def clean_up(self) -> None:
        """Who waits asks again; what is granted stays granted, for it is in use."""
        text = "lmx had an internal error while the model waited for its turn to load."
        waiting = list(self._queue)
        if self._current is not None and self.machine.current in ("reserving", "evicting", "reclaiming"):
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
                self._ledger.loaded(name)
                self._end_turn(name, "loaded")
            case loader.Released(name):
                self._released(name)
            case loader.Measured(name, nbytes, trimmed):
                self._ledger.measured(name, nbytes, trimmed=trimmed)
            case loader.BecameBusy(name):
                self._ledger.busy(name)
            case loader.BecameIdle(name):
                self._ledger.idle(name)
            case loader.EvictionRefused(name):
                self._eviction_refused(name)
            case loader.SetSafeMode(reason):
                self._safe_mode = reason
                self.note(safe_mode=reason)
            case loader.SetPressure(reason):
                self._pressure = reason
                self.note(pressure=reason)
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
            case Look():
                self._look()
            case Grant():
                self._grant()
            case Refuse():
                self._refuse()
            case Next():
                self._current = None
                self._waited = False
                self._in_use.clear()
                self._leaving.clear()
                self._next()
            case _:
                raise TypeError(f"loader: unknown effect {effect!r}")

    @property
    def _wanted(self) -> loader.Acquire:
        """The first in the queue."""
        assert self._current is not None
        return self._current

    @property
    def _held(self) -> dict[str, int]:
        """Bytes that each model holds, the longest unused first."""
        return self._ledger.held

    def _next(self) -> None:
        if self._current is None and self._queue:
            self._current = self._queue.popleft()
            self.feed("acquire", f"{self._current.model} asks for {self._current.need_bytes / GB:.2f} GB")

    def _decide(self) -> None:
        """Refuse, let go, or make room: by the safe mode, the machine's memory and the ledger, in this order."""
        wish = self._wanted
        if reason := self._forbidden():
            self.feed("refuse", reason.message)
            return
        needs = self._needs()
        self._plan = self.decide(memory.plan, **needs)
        self.note(held_bytes=sum(self._ledger.held.values()), others_bytes=self._ledger.others())
        if isinstance(self._plan, memory.Fits):
            self.feed("fits", f"{wish.model} may load")
        elif not self._waited and self._comes_back(needs):
            self._waited = True
            self.feed("reclaim", "What was given back does not count as free yet")
        elif isinstance(self._plan, memory.Evict):
            self.feed("evict", f"{wish.model} needs the memory of {', '.join(self._plan.models)}")
        else:
            self.feed("refuse", memory.figures(self._plan, self._ledger.shown()))

    def _forbidden(self) -> Refusal | None:
        """Why the first in the queue may not load, whatever it needs."""
        if self._safe_mode and not self._wanted.by_admin:
            return Refusal(RefusalKind.SAFE_MODE, self._safe_mode, 60.0)
        return Refusal(RefusalKind.MEMORY_PRESSURE, self._pressure, PRESSURE_RETRY) if self._pressure else None

    def _needs(self) -> Needs:
        ledger, wish = self._ledger, self._wanted
        return Needs(
            need=ledger.need(wish.model, wish.need_bytes),
            free=ledger.free(),
            budget=ledger.budget,
            held=ledger.held,
            idle_first=[] if wish.preload else ledger.may_go(stay=self._in_use),
        )

    def _comes_back(self, needs: Needs) -> bool:
        """Whether it fits as soon as all of what has just been given back counts as free."""
        later = memory.plan(**Needs(**{**needs, "free": needs["free"] + self._ledger.returning()}))
        return isinstance(later, memory.Fits)

    def _look(self) -> None:
        if isinstance(memory.plan(**self._needs()), memory.Fits):
            self.feed("reclaimed", "It counts as free now")
        else:
            self.schedule(LOOK_SECONDS, "look")

    def _ask_to_leave(self) -> None:
        assert isinstance(self._plan, memory.Evict)
        self._leaving = set(self._plan.models)
        for name in self._plan.models:
            self._models[name].tell(model.Evict())

    def _grant(self) -> None:
        wish = self._wanted
        self._no_loads()
        self._ledger.grant(wish.model, wish.need_bytes, pinned=wish.pinned)
        wish.reply_to.tell(model.Granted(wish.ticket))

    def _refuse(self) -> None:
        wish = self._wanted
        refusal = self._forbidden()
        if refusal is None and isinstance(self._plan, memory.TooBig):
            text = memory.figures(self._plan, self._ledger.shown()) + (f" {PRELOAD}" if wish.preload else "")
            refusal = Refusal(RefusalKind.INSUFFICIENT_MEMORY, text, 10.0)
        elif refusal is None:
            refusal = Refusal(RefusalKind.INSUFFICIENT_MEMORY, "Other models did not leave in time.", 10.0)
        wish.reply_to.tell(model.Refused(wish.ticket, refusal))
        if refusal.kind is RefusalKind.INSUFFICIENT_MEMORY:
            self._try_to_cure()

    def _no_loads(self) -> None:
        """From now on, refusals count anew."""
        self._refusals = 0
        self._refused_since: float | None = None

    def _try_to_cure(self) -> None:
        """A guard that refuses for long although memory could be had gives somebody a fresh worker."""
        now = self.house.clock.monotonic()
        self._refusals += 1
        self._refused_since = now if self._refused_since is None else self._refused_since
        seconds, lines = now - self._refused_since, self._ledger.shown()
        if memory.cure(refusals=self._refusals, seconds=seconds, lines=lines) is None:
            return
        name = self.decide(memory.cure, refusals=self._refusals, seconds=seconds, lines=lines)
        assert name is not None
        self._no_loads()
        held = lines[name].held / GB
        self._models[name].tell(model.Recycle(f"Loads were refused for {seconds:.0f} s while it holds {held:.1f} GB."))

    def _end_turn(self, name: str, event: str) -> None:
        if self._current is not None and self._current.model == name and self.machine.current == "spawning":
            self.feed(event, name)

    def _released(self, name: str) -> None:
        self._ledger.release(name)
        self._waited = False
        self._end_turn(name, "released")
        if self.machine.current == "evicting" and name in self._leaving:
            self.feed("evicted", f"{name} is gone")

    def _eviction_refused(self, name: str) -> None:
        if self.machine.current == "evicting" and name in self._leaving:
            self._in_use.add(name)
            self.feed("eviction_refused", f"{name} is in use")

    def _withdraw(self, name: str, ticket: int) -> None:
        self._queue = deque(wish for wish in self._queue if (wish.model, wish.ticket) != (name, ticket))
        current = self._current
        if current is None or (current.model, current.ticket) != (name, ticket):
            return
        if self.machine.current == "spawning":
            self._ledger.withdraw(name)
        if self.machine.current != "settling":
            self.feed("withdrawn", f"{name} no longer waits")
