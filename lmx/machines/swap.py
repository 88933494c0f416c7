"""An alias moves from one model to another without a failed request: the new one sings before the old one goes."""

from typing import ClassVar

from statemachine import State

from lmx.machines.base import Deadline, Effect, Machine


class LoadNew(Effect, frozen=True):
    """Bring the new model to `ready`."""


class LoadOld(Effect, frozen=True):
    """Bring the old model back to `ready`."""


class RouteToNew(Effect, frozen=True):
    """From now on the alias means the new model."""


class Hold(Effect, frozen=True):
    """Keep requests for the alias until it is released: neither model is there."""


class Release(Effect, frozen=True):
    """Serve what was held, by the model that the alias means now."""


class UnloadOld(Effect, frozen=True):
    """Let the old model finish what it has begun, then free its memory."""


class UnloadNew(Effect, frozen=True):
    """The new model is not wanted any more."""


class TellMoved(Effect, frozen=True):
    """The one who asked for the swap: it is done."""


class TellStayed(Effect, frozen=True):
    """The one who asked for the swap: the alias means the old model as before, and why."""

    reason: str


class SwapMachine(Machine):
    """steady → loading → draining → steady; or emptying → filling → steady, or reverting → steady."""

    steady = State(initial=True)
    loading = State()
    draining = State()
    emptying = State()
    filling = State()
    reverting = State()

    swap = steady.to(loading)
    no_room = loading.to(emptying)
    new_ready = loading.to(draining) | filling.to(steady, on="moved")
    new_failed = loading.to(steady, on="stayed") | filling.to(reverting)
    old_gone = draining.to(steady, on="tell_moved") | emptying.to(filling)
    old_ready = reverting.to(steady, on="back")
    old_failed = reverting.to(steady, on="back")
    timed_out = (
        loading.to(steady, on="give_up")
        | draining.to(steady, on="tell_moved")
        | emptying.to(reverting)
        | filling.to(reverting, on="unload_new")
        | reverting.to(steady, on="back")
    )

    deadlines = {
        "loading": Deadline(900.0, "timed_out"),
        "draining": Deadline(660.0, "timed_out"),
        "emptying": Deadline(120.0, "timed_out"),
        "filling": Deadline(900.0, "timed_out"),
        "reverting": Deadline(900.0, "timed_out"),
    }

    remembers: ClassVar = {"why": str}

    def __init__(self) -> None:
        self.why = ""
        """What went wrong first, while it is made good."""
        super().__init__()

    def moved(self) -> None:
        self.emit(RouteToNew(), Release(), TellMoved())

    def tell_moved(self) -> None:
        self.emit(TellMoved())

    def stayed(self, reason: str) -> None:
        self.emit(TellStayed(reason))

    def give_up(self, reason: str) -> None:
        self.emit(UnloadNew(), TellStayed(reason))

    def unload_new(self) -> None:
        self.emit(UnloadNew())

    def back(self) -> None:
        self.emit(Release(), TellStayed(self.why))

    def on_enter_loading(self) -> None:
        self.emit(LoadNew())

    def on_enter_draining(self) -> None:
        self.emit(RouteToNew(), UnloadOld())

    def on_enter_emptying(self) -> None:
        self.emit(Hold(), UnloadOld())

    def on_enter_filling(self) -> None:
        self.emit(LoadNew())

    def on_enter_reverting(self, reason: str) -> None:
        self.why = reason
        self.emit(LoadOld())
