"""One model's dealings with the loader: the wish at hand, and the memory that was granted for it."""

from lmx.actors.messages import loader, model
from lmx.actors.messages.ref import Ref


class Wish:
    """Numbered, so that an answer to an earlier one is known as late."""

    def __init__(self, name: str, need_bytes: int, loader: Ref[loader.Message]) -> None:
        self._name = name
        self._need_bytes = need_bytes
        self._loader = loader
        self._ticket = 0
        self.by_admin = False
        """The next wish is an admin's own, and only that one."""

    def make(self, reply_to: Ref[model.Message]) -> None:
        """Ask for the turn to load; answered by `model.Granted` or `model.Refused`."""
        self._ticket += 1
        self._loader.tell(loader.Acquire(self._name, self._ticket, self._need_bytes, self.by_admin, reply_to))
        self.by_admin = False

    def is_at_hand(self, ticket: int) -> bool:
        return ticket == self._ticket

    def withdraw(self, ticket: int | None = None) -> None:
        """Give up the wish with `ticket`, or the latest one, be it granted or not."""
        self._loader.tell(loader.Withdraw(self._name, self._ticket if ticket is None else ticket))

    def loaded(self) -> None:
        self._loader.tell(loader.Loaded(self._name))

    def give_back(self) -> None:
        """The worker's memory is free."""
        self._loader.tell(loader.Released(self._name))

    def became_idle(self) -> None:
        self._loader.tell(loader.BecameIdle(self._name))

    def stay(self) -> None:
        """The model is in use and keeps its memory."""
        self._loader.tell(loader.EvictionRefused(self._name))
