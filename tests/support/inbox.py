"""A receiver that keeps what it is told, and lets a test wait for it."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

M = TypeVar("M")


class Inbox(Generic[M]):
    """A real Ref: messages may come from any thread."""

    def __init__(self) -> None:
        self.messages: list[M] = []
        self._changed = threading.Condition()

    def tell(self, message: M) -> None:
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def wait(self, enough: Callable[[list[M]], bool], seconds: float = 20.0) -> list[M]:
        """Return the messages as soon as `enough(messages)`; fail after `seconds`."""
        with self._changed:
            if not self._changed.wait_for(lambda: enough(self.messages), seconds):
                raise AssertionError(f"waited {seconds} s in vain, got {self.messages}")
            return list(self.messages)

    def wait_for(self, kind: type | tuple[type, ...], seconds: float = 20.0) -> M:
        """The first message of `kind`."""
        messages = self.wait(lambda told: any(isinstance(message, kind) for message in told), seconds)
        return next(message for message in messages if isinstance(message, kind))
