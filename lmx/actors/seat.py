"""The place of a model's one worker: taken by at most one process at a time, numbered so that late words are known."""

from lmx.actors.messages import model
from lmx.actors.messages.ref import Ref
from lmx.actors.ports import Launcher, Worker
from lmx.machines import frames
from lmx.machines import model as life
from lmx.machines.base import Effect


class Seat:
    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._worker: Worker | None = None
        self._number = 0

    def take(self, owner: Ref[model.Message]) -> int:
        """Start a worker and return its pid; what it says is told to `owner`. Raises OSError."""
        self._number += 1
        self._worker = self._launcher.launch(self._number, owner)
        return self._worker.pid

    def holds(self, number: int) -> bool:
        """Whether worker `number` is the one that sits here; another one's words are late."""
        return self._worker is not None and number == self._number

    def leave(self) -> None:
        """The worker is gone."""
        self._worker = None

    def send(self, command: frames.Command) -> None:
        if self._worker is not None:
            self._worker.send(command)

    def perform(self, effect: Effect) -> None:
        """What the machine wants of whoever sits here."""
        match effect:
            case life.WarmUp():
                self.send(frames.WarmUp())
            case life.StopWorker():
                self.send(frames.Shutdown())
            case life.KillWorker():
                self.kill()
            case _:
                raise TypeError(f"model: unknown effect {effect!r}")

    def kill(self) -> bool:
        """SIGKILL whoever sits here; False when nobody does."""
        if self._worker is None:
            return False
        self._worker.kill()
        return True
