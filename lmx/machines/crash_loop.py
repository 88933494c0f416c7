"""Whether the daemon starts too often: after three starts without a clean stop in a minute nothing loads by itself."""

from collections.abc import Sequence

from statemachine import State

from lmx.machines.base import Deadline, Effect, Machine

WINDOW = 60.0
LIMIT = 3


class AllowLoads(Effect, frozen=True):
    pass


class ForbidLoads(Effect, frozen=True):
    """Only an admin may load models."""


class CrashLoopMachine(Machine):
    """watching → suspect → safe_mode → watching."""

    watching = State(initial=True)
    suspect = State()
    safe_mode = State()

    started = (
        watching.to(safe_mode, cond="looping")
        | watching.to(suspect, cond="unclean")
        | watching.to.itself(internal=True)
    )
    quiet = suspect.to(watching) | safe_mode.to(watching)
    release = safe_mode.to(watching)

    deadlines = {"suspect": Deadline(120.0, "quiet"), "safe_mode": Deadline(900.0, "quiet")}

    def looping(self, unclean_starts: int) -> bool:
        return unclean_starts >= LIMIT

    def unclean(self, unclean_starts: int) -> bool:
        return unclean_starts > 1

    def on_enter_safe_mode(self) -> None:
        self.emit(ForbidLoads())

    def on_exit_safe_mode(self) -> None:
        self.emit(AllowLoads())


def unclean_starts(starts: Sequence[float], now: float) -> int:
    """How many of `starts` (unix times since the last clean stop, this one included) lie in the window."""
    return sum(1 for start in starts if 0 <= now - start <= WINDOW)


def suspect(*, latest: str, last_start: float | None, panic: float | None) -> str:
    """The model that may have taken the whole machine down: that which was loaded last, when the kernel panicked
    (`panic`, unix time; None = never) after the last start that did not end cleanly. Empty = none."""
    return latest if panic is not None and last_start is not None and panic > last_start else ""


def restored(*, preload: tuple[str, ...], loaded: tuple[str, ...], suspect: str) -> tuple[str, ...]:
    """What is loaded at the start, in this order; `loaded` are those that an unclean stop ended."""
    return tuple(name for name in dict.fromkeys((*preload, *loaded)) if name != suspect)
