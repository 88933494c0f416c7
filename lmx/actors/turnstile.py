"""What one model tells admission: how many it takes, whom it refuses, and where its sequences are."""

from lmx.actors.messages import admission
from lmx.actors.messages.ref import Ref
from lmx.machines.types import Refusal


class Turnstile:
    """Before somebody watches, and of sequences that nobody counts, it tells nothing."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._watcher: Ref[admission.Message] | None = None
        self._open = False
        self.slots = 1
        """Of the worker that is loaded, or was last."""

    def watched_by(self, watcher: Ref[admission.Message]) -> None:
        self._watcher = watcher
        self._tell_capacity()

    def open(self) -> None:
        self._open = True
        self._tell_capacity()

    def close(self) -> None:
        if self._open:
            self._open = False
            self._tell_capacity()

    def refuse(self, refusal: Refusal) -> None:
        """Nobody who waits will be served."""
        if self._watcher is not None:
            self._watcher.tell(admission.Refusing(self._name, refusal))

    def began(self, seq: int, tokens: int) -> None:
        if self._watcher is not None:
            self._watcher.tell(admission.Began(seq, tokens))

    def ended(self, seq: int, tokens: int) -> None:
        if self._watcher is not None:
            self._watcher.tell(admission.Ended(seq, tokens))

    def _tell_capacity(self) -> None:
        if self._watcher is not None:
            self._watcher.tell(admission.Capacity(self._name, self.slots if self._open else 0))
