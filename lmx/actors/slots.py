"""The slots of one model's workers: fewer after an out-of-memory death, and back again with time."""

from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

from lmx.actors.facts import Note
from lmx.machines import allowance
from lmx.machines.allowance import FULL

P = ParamSpec("P")
R = TypeVar("R")


class Decide(Protocol):
    def __call__(self, policy: Callable[P, R], *args: P.args, **inputs: P.kwargs) -> R: ...


class Slots:
    """Over all of its workers, and over crashes of its actor."""

    def __init__(self, configured: int, note: Note, decide: Decide) -> None:
        self._configured = configured
        self._note = note
        self._decide = decide
        self._allowance = FULL

    def after(self, *, oom: bool, served: float) -> int:
        """How many the next worker is given; the latest one has served so many seconds, and is gone."""
        if oom or self._allowance != FULL:
            before, all_of_it = self._allowance, self._configured
            served = round(served, 3)
            now = self._decide(allowance.after, allowance=before, configured=all_of_it, oom=oom, served=served)
            self._allowance = now
            self._note(fewer_slots=allowance.explain(now, all_of_it))
        return self._configured - self._allowance.lost

    def why_recycle(self, served: float) -> str:
        """Not empty once the present worker, by serving for so many seconds, has earned a slot for the next one."""
        if not allowance.is_earned(self._allowance, served):
            return ""
        return "It has served for long enough since it was out of memory: the next worker has a slot more."
