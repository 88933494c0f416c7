"""A whole daemon without threads, processes or sockets: the real actors in a simulated world."""

import errno
from collections.abc import Iterator
from itertools import count
from typing import Any

from lmx.actors.admission import AdmissionActor
from lmx.actors.base import Address, House
from lmx.actors.journal import JournalActor
from lmx.actors.loader import LoaderActor
from lmx.actors.memory import MemoryActor
from lmx.actors.messages import admission, model
from lmx.actors.messages.ref import Ref
from lmx.actors.model import ModelActor
from lmx.actors.supervisor import SupervisorActor
from lmx.machines import frames
from lmx.machines.admission import Limits
from lmx.machines.types import ModelSpec
from tests.chaos.simulated.clients import Clients
from tests.chaos.simulated.worker import Habits, SimWorker
from tests.chaos.simulated.world import World
from tests.support.scales import Weighs

GB = 10**9
NEED = 6 * GB
SHARE = 0.9
MOST_STARTS = 10
"""Of one model in 30 s, since an admin loaded it last: five restarts, and what the loader may ask for beside."""
MODELS = ("a", "b", "c")


class Gauge:
    """16 GB, of which other programs take some: room for two of the three models."""

    def __init__(self, daemon: "SimDaemon") -> None:
        self.taken = 0.0
        self._daemon = daemon

    def total(self) -> int:
        return 16 * GB

    def free(self) -> int:
        ours = NEED * sum(worker.alive for worker in self._daemon.workers())
        return max(0, int(self.total() - ours - self.taken))


class Launcher:
    def __init__(self, daemon: "SimDaemon", name: str) -> None:
        self._daemon = daemon
        self._name = name
        self._starts: list[float] = []

    def launch(self, number: int, owner: Ref[model.Message]) -> SimWorker:
        daemon = self._daemon
        since = max(daemon.world.now - 30.0, daemon.loaded_at.get(self._name, 0.0))
        self._starts = [start for start in self._starts if start > since] + [daemon.world.now]
        if len(self._starts) > MOST_STARTS:
            daemon.world.violated(f"{self._name} was started {len(self._starts)} times in 30 s")
        if any(not worker.reaped for worker in daemon.launched[self._name]):
            daemon.world.violated(f"{self._name} was given a second worker before the first one was gone")
        if daemon.world.now < daemon.poor_until:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        worker = SimWorker(daemon.world, daemon.habits[self._name], number, owner, self._check, self._name)
        daemon.launched[self._name].append(worker)
        return worker

    def _check(self, worker: SimWorker, command: frames.Command | None) -> None:
        """What a worker must never be told; None is a SIGKILL."""
        if command is None and worker in self._daemon.spared:
            self._daemon.world.violated(f"worker {worker.pid} slept for five seconds and was killed")
        if isinstance(command, frames.Insert) and command.seq >= 0 and self._daemon.state(self._name) == "quarantined":
            self._daemon.world.violated(f"{self._name} is quarantined and was given sequence {command.seq}")


class SimDaemon:
    def __init__(self, seed: int) -> None:
        self.world = World(seed)
        self.models = MODELS
        self.habits = {name: Habits() for name in MODELS}
        self.launched: dict[str, list[SimWorker]] = {name: [] for name in MODELS}
        self.spared: set[SimWorker] = set()
        """Workers that nobody may kill now."""
        self.poor_until = 0.0
        """Until then no process can be started."""
        self.crashed_at = -1000.0
        self.loaded_at: dict[str, float] = {}
        """When an admin last wanted it loaded, which forgets what went before."""
        self.gauge = Gauge(self)
        self.replies = count()
        self._assemble()
        self.clients = Clients(self.world, self.admission, self._writes_for)

    def workers(self, name: str = "") -> Iterator[SimWorker]:
        names = [name] if name else list(MODELS)
        return (worker for one in names for worker in self.launched[one])

    def _writes_for(self, request: str) -> bool:
        return any(worker.has(request) for worker in self.workers())

    def load(self, name: str) -> None:
        self.loaded_at[name] = self.world.now
        self.admission.tell(admission.LoadModel(name, Anybody()))

    def unload(self, name: str) -> None:
        self.admission.tell(admission.UnloadModel(name, Anybody()))

    def state(self, name: str) -> str:
        return str(self.world.actor(f"model:{name}").machine.current)

    def end_faults(self) -> None:
        """From now on all goes well: workers that sleep or stand still are not woken, that is lmx's business."""
        for habits in self.habits.values():
            habits.__init__()  # type: ignore[misc]
        self.gauge.taken = self.poor_until = 0.0
        for worker in self.workers():
            worker.let_go()

    def _assemble(self) -> None:
        world = self.world
        watch = world.start(SupervisorActor, world, self._escalate)
        journal = world.start(JournalActor, watch, None)
        house = House(journal, Anybody(), watch, world, world, strict=True)
        models: dict[str, Address[Any]] = {}
        loader = world.start(LoaderActor, house, self.gauge, SHARE, models)
        for name in MODELS:
            launcher = Launcher(self, name)
            arguments = (house, spec(name), Weighs(NEED), None, loader, launcher, world.random)
            models[name] = world.start(ModelActor, *arguments)
        self.admission = world.start(AdmissionActor, house, models, Limits(), 600.0, 30.0)
        world.start(MemoryActor, house, self.gauge, models, loader, self.admission, Anybody())

    def _escalate(self, reason: str) -> None:
        self.world.violated(f"the supervisor gave up: {reason}")


class Anybody:
    """Takes an answer and does nothing with it."""

    def tell(self, message: object) -> None:
        pass


def spec(name: str) -> ModelSpec:
    return ModelSpec(name=name, path="", backend="fake", slots=4)
