"""What actors need of the outside world, as Protocols: the app gives them the real thing, tests another one."""

from typing import Protocol, TypeVar

from lmx.actors.messages import model
from lmx.actors.messages.ref import Ref
from lmx.machines import frames
from lmx.machines.lasting import RuntimeState
from lmx.machines.liveness import Condition
from lmx.machines.types import ModelSpec

M = TypeVar("M")


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds that never jump."""
        ...

    def time(self) -> float:
        """Unix time, for people."""
        ...


class Timers(Protocol):
    def after(self, seconds: float, ref: Ref[M], message: M) -> None:
        """Tell `message` to `ref` in `seconds`. There is no cancel: late messages carry what makes them stale."""
        ...


class Worker(Protocol):
    """One worker process, seen from the actor that owns it."""

    @property
    def pid(self) -> int: ...

    def send(self, command: frames.Command) -> None:
        """Hand over a frame; never blocks, and does nothing when the process is gone."""
        ...

    def kill(self) -> None:
        """End the process with SIGKILL."""
        ...

    def condition(self) -> Condition:
        """As the operating system sees it; `running` also where that does not tell."""
        ...


class Launcher(Protocol):
    def launch(self, number: int, owner: Ref[model.Message]) -> Worker:
        """Start a worker; its frames and its end are told to `owner` with `number`. Raises OSError."""
        ...


class Scales(Protocol):
    def weigh(self, spec: ModelSpec, ticket: int, owner: Ref[model.Message]) -> None:
        """Estimate what loading `spec` takes; returns at once. `owner` is told `model.Weighed` within seconds."""
        ...

    def free(self) -> int:
        """As MemoryGauge tells it."""
        ...


class MemoryGauge(Protocol):
    def free(self) -> int:
        """Bytes that a new process could take without swapping."""
        ...

    def total(self) -> int: ...


class Store(Protocol):
    def save(self, state: RuntimeState) -> None:
        """Keep it beyond the end of the process: whole, or not at all. Raises OSError."""
        ...
