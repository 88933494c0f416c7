"""Admins who asked one model for a state and wait for the answer."""

from lmx.actors.messages import caller
from lmx.actors.messages.ref import Ref
from lmx.machines.types import Refusal


class Nobody:
    """Wants a state, but no answer."""

    def tell(self, message: caller.Reply) -> None:
        pass


class Callers:
    def __init__(self, name: str) -> None:
        self._name = name
        self._waiting: list[tuple[str, Ref[caller.Reply]]] = []

    def add(self, state: str, reply_to: Ref[caller.Reply] | None) -> None:
        """`reply_to` wants to know when the model is in `state` ("ready" or "unloaded")."""
        if reply_to is not None:
            self._waiting.append((state, reply_to))

    def wait_for(self, state: str) -> bool:
        """Whether anybody does."""
        return any(wanted == state for wanted, _ in self._waiting)

    def settle(self, state: str) -> None:
        """The model is in `state`."""
        self._tell(state, caller.Settled(self._name, state))

    def refuse(self, refusal: Refusal) -> None:
        """The model will not become ready."""
        self._tell("ready", caller.Refused(self._name, refusal))

    def abandon(self, refusal: Refusal) -> None:
        """Nobody will be told anything any more."""
        for state in ("ready", "unloaded"):
            self._tell(state, caller.Refused(self._name, refusal))

    def _tell(self, state: str, reply: caller.Reply) -> None:
        told = [reply_to for wanted, reply_to in self._waiting if wanted == state]
        self._waiting = [(wanted, reply_to) for wanted, reply_to in self._waiting if wanted != state]
        for reply_to in told:
            reply_to.tell(reply)
