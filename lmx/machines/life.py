"""What the machine of a model wants done by its actor."""

from lmx.machines.base import Effect
from lmx.machines.types import Failure, Refusal


class AcquireLoader(Effect, frozen=True):
    """Ask the loader for a turn and for memory."""


class WithdrawFromLoader(Effect, frozen=True):
    """No longer wait for the turn."""


class SpawnWorker(Effect, frozen=True):
    """Start a worker process and let it load."""


class WarmUp(Effect, frozen=True):
    """Let the worker compile what it compiles lazily."""


class RunCanary(Effect, frozen=True):
    """Let the model answer a known prompt."""


class Open(Effect, frozen=True):
    """The model answers: give it everything that waits."""


class StopTaking(Effect, frozen=True):
    """The model answers no more: whoever comes from now on waits."""


class StopWorker(Effect, frozen=True):
    """Ask the worker to exit."""


class KillWorker(Effect, frozen=True):
    """End the worker now; its exit follows as an event of its own."""

    stuck: str = ""
    """Why it counts as stuck, as a sentence; empty = it is not wanted any more."""


class AbortRunning(Effect, frozen=True):
    """End every sequence that the worker holds."""

    failure: Failure


class Interrupt(Effect, frozen=True):
    """The worker died: what it held goes on in the next one, or ends with `failure`."""

    failure: Failure


class RefuseWaiting(Effect, frozen=True):
    """Refuse everything that waits for the model."""

    refusal: Refusal


class GiveBackMemory(Effect, frozen=True):
    """Tell the loader that the worker and its memory are gone."""


class Closed(Effect, frozen=True):
    """The model is unloaded: tell those who asked for it, and start again if somebody waits."""


class RememberQuarantine(Effect, frozen=True):
    """The quarantine is to outlast the daemon."""

    reason: str


class ForgetQuarantine(Effect, frozen=True):
    """The model is in quarantine no more."""


class Schedule(Effect, frozen=True):
    """Feed `event` after `seconds`, unless the state is left before."""

    seconds: float
    event: str
    restart: bool = True
    """It is for a worker after one that died, and not for one that could not be started."""
