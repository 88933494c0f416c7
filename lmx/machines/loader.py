"""Who may load next: one load at a time, and only what fits into the memory ledger."""

from statemachine import State

from lmx.machines.base import Deadline, Effect, Machine


class Plan(Effect, frozen=True):
    """Compare what the first in the queue needs with what there is (memory.plan), and feed the verdict."""


class Evict(Effect, frozen=True):
    """Ask the chosen models to unload."""


class Look(Effect, frozen=True):
    """See whether what was given back counts as free by now, and look again if not."""


class Grant(Effect, frozen=True):
    """Tell the first in the queue to load."""


class Refuse(Effect, frozen=True):
    """Tell the first in the queue that it cannot be loaded, with the figures."""


class Next(Effect, frozen=True):
    """Serve the next in the queue, if there is one."""


class LoaderMachine(Machine):
    """idle → reserving → (evicting → reserving) → (reclaiming → reserving) → spawning → settling → idle."""

    idle = State(initial=True)
    reserving = State()
    evicting = State()
    reclaiming = State()
    spawning = State()
    settling = State()

    acquire = idle.to(reserving)
    fits = reserving.to(spawning)
    refuse = reserving.to(idle, on="tell_refusal")
    evict = reserving.to(evicting)
    evicted = evicting.to(reserving)
    eviction_refused = evicting.to(reserving)
    reclaim = reserving.to(reclaiming)
    look = reclaiming.to.itself(internal=True, on="look_again")
    reclaimed = reclaiming.to(reserving)
    withdrawn = reserving.to(idle) | evicting.to(idle) | reclaiming.to(idle) | spawning.to(settling)
    loaded = spawning.to(settling)
    released = spawning.to(settling)
    settled = settling.to(idle)
    timed_out = evicting.to(idle, on="tell_refusal") | spawning.to(settling)

    deadlines = {
        "evicting": Deadline(45.0, "timed_out"),
        "reclaiming": Deadline(2.0, "reclaimed"),
        "spawning": Deadline(900.0, "timed_out"),
        "settling": Deadline(0.05, "settled"),
    }

    def tell_refusal(self) -> None:
        self.emit(Refuse())

    def look_again(self) -> None:
        self.emit(Look())

    def on_enter_idle(self) -> None:
        self.emit(Next())

    def on_enter_reserving(self) -> None:
        self.emit(Plan())

    def on_enter_evicting(self) -> None:
        self.emit(Evict())

    def on_enter_reclaiming(self) -> None:
        self.emit(Look())

    def on_enter_spawning(self) -> None:
        self.emit(Grant())
