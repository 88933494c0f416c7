"""Whether what is to last can be written; while it cannot, it is tried again and again, and everything else goes on."""

from statemachine import State

from lmx.machines.base import Effect, Machine

DELAYS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
"""Seconds before try 2, 3, 4 …; the last one stays."""


class Save(Effect, frozen=True):
    """Write what is not written yet."""


class Schedule(Effect, frozen=True):
    """Feed `event` after `seconds`, unless the state is left before."""

    seconds: float
    event: str


class StateFileMachine(Machine):
    """keeping ⇄ failing."""

    keeping = State(initial=True)
    failing = State()

    failed = keeping.to(failing, on="try_later") | failing.to.itself(internal=True, on="try_later")
    retry = failing.to.itself(internal=True, on="save")
    written = failing.to(keeping)

    remembers = {"_tries": int}

    def __init__(self) -> None:
        self._tries = 0
        super().__init__()

    def try_later(self) -> None:
        delay = DELAYS[min(self._tries, len(DELAYS) - 1)]
        self._tries += 1
        self.emit(Schedule(delay, "retry"))

    def save(self) -> None:
        self.emit(Save())

    def on_enter_keeping(self) -> None:
        self._tries = 0
