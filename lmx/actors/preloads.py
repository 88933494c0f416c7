"""What is loaded at the start: one model after the other, in its order, and why some are not."""

from collections.abc import Iterable, Mapping, Sequence

from lmx.actors.base import House
from lmx.actors.messages import caller, journal, model, server
from lmx.actors.messages.ref import Ref

PATIENCE = 120.0
"""Seconds after which the next one is begun although the last one is not ready: it may be dying again and again."""


class Turn:
    """Hears what became of one model's load, and passes on that it ended."""

    def __init__(self, owner: Ref[server.Message]) -> None:
        self._owner = owner

    def tell(self, message: caller.Reply) -> None:
        self._owner.tell(server.PreloadEnded(message.model))


class Preloads:
    def __init__(self, house: House, models: Mapping[str, Ref[model.Message]]) -> None:
        self._house = house
        self._models = models
        self._waiting: list[str] = []
        self._now = ""
        """Whose turn it is."""

    def plan(self, names: Sequence[str]) -> None:
        """Those of `names` that there are, in this order."""
        self._waiting = [name for name in names if name in self._models]

    def begin(self, owner: Ref[server.Message]) -> None:
        """`owner` is told PreloadEnded for each, and calls `ended`. Once begun, another `begin` changes nothing."""
        if not self._now:
            self._next(owner)

    def ended(self, name: str, owner: Ref[server.Message]) -> None:
        """Late words about one whose turn is over change nothing."""
        if name == self._now:
            self._next(owner)

    def hold_back(self, reason: str, names: Iterable[str] | None = None) -> None:
        """Let everybody see why these (default: all that are planned) are not loaded; a load takes that away."""
        for name in self._waiting if names is None else names:
            self._house.journal.tell(journal.Noted(f"model:{name}", {"held_back": reason}))

    def _next(self, owner: Ref[server.Message]) -> None:
        self._now = self._waiting.pop(0) if self._waiting else ""
        if self._now:
            self._models[self._now].tell(model.Load(reply_to=Turn(owner)))
            self._house.timers.after(PATIENCE, owner, server.PreloadEnded(self._now))
