"""The place of a model's one worker: taken by at most one process at a time, numbered so that late words are known."""

from lmx.actors.messages import model
from lmx.actors.messages.ref import Ref
from lmx.actors.ports import Launcher, Worker
from lmx.machines import frames, life
from lmx.machines.base import Effect
from lmx.machines.liveness import Condition


class Seat:
    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._worker: Worker | None = None
        self._stuck = ""
        self.number = 0
        """Of the latest worker."""

    def take(self, owner: Ref[model.Message]) -> int:
        """Start a worker and return its pid; what it says is told to `owner`. Raises OSError."""
        self.number += 1
        self._stuck = ""
        self._worker = self._launcher.launch(self.number, owner)
        return self._worker.pid

    @property
    def is_taken(self) -> bool:
        """Also by one that was killed and has not been reaped yet."""
        return self._worker is not None

    def holds(self, number: int) -> bool:
        """Whether worker `number` is the one that sits here; another one's words are late."""
        return self._worker is not None and number == self.number

    def leave(self, exit: model.WorkerExited) -> model.WorkerExited:
        """The worker is gone: how that is to be told, for only we know why it was killed."""
        self._worker = None
        if self._stuck and exit.cause == "killed":
            return model.WorkerExited(exit.worker, "wedge", f"{self._stuck} lmx has killed it.")
        return exit

    def condition(self) -> Condition:
        """Of the process that sits here."""
        return self._worker.condition() if self._worker is not None else "gone"

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
            case life.KillWorker(stuck):
                self._stuck = self._stuck or stuck
                self.kill()
            case _:
                raise TypeError(f"model: unknown effect {effect!r}")

    def kill(self) -> bool:
        """SIGKILL whoever sits here; False when nobody does."""
        if self._worker is None:
            return False
        self._worker.kill()
        return True
