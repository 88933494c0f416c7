"""What admission holds: requests, and their sequences, from admission to the last byte."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from lmx.actors.lane import Lane
from lmx.actors.messages import admission
from lmx.actors.messages.client import Failed, Refused
from lmx.machines.admission import DRAINING
from lmx.machines.concurrency import Concurrency
from lmx.machines.queue import Charge
from lmx.machines.types import Failure, FailureKind, Generation, Priority, Refusal

LOADING = Failure(FailureKind.ABORTED, "The server is shutting down, and the model was not loaded yet.")


@dataclass(slots=True)
class Group:
    """A request: it is taken, and it waits, as one."""

    name: str
    client: str
    model: str
    """As it was asked for, which may be an alias."""
    lane: Lane
    priority: Priority
    since: float
    deadline: float
    key: str
    place: int
    """In the order of its client's requests, if it has one from before; 0 = none."""
    leases: dict[str, "Lease"] = field(default_factory=dict)
    begun: bool = False
    """A sequence of it was given to the model."""
    spoke: bool = False
    """A sequence of it has its first token."""
    declined: dict[str, Refusal] = field(default_factory=dict)
    """What the models said that could not serve it."""
    verdict: Refused | Failed | None = None
    """How lmx ended it; what comes of it later is told the same."""

    @property
    def waits(self) -> bool:
        """A sequence of it does."""
        return any(lease.phase == "waiting" for lease in self.leases.values())

    def at_drain(self) -> Refused | Failed | None:
        """How it ends when the server is to stop; None: what runs may finish. No load is waited for."""
        if self.verdict is not None or self.spoke:
            return None
        if not self.begun:
            return Refused(DRAINING)
        return Failed(LOADING) if self.lane.concurrency is None else None


@dataclass(slots=True)
class Lease:
    """A sequence."""

    seq: int
    ask: admission.Submit | None
    """While it waits; then the prompt is the model's."""
    group: Group
    phase: Literal["waiting", "running", "over"] = "waiting"


@dataclass(slots=True)
class Run:
    """A sequence that a model has been given and that has not ended, whether or not its client is still there."""

    lane: Lane
    charge: Charge
    concurrency: Concurrency | None
    """The one that let it in: what a model did before it opened says nothing about its speed."""
    since: float
    waited: bool
    """There were more than the slots before it."""
    lease: Lease
    began: bool = False


class Leases:
    """By sequence, by request and by key."""

    def __init__(self) -> None:
        self._leases: dict[str, Lease] = {}
        self._groups: dict[str, Group] = {}
        self._keys: dict[tuple[str, str], Group] = {}

    def __len__(self) -> int:
        """Sequences."""
        return len(self._leases)

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._leases

    @property
    def requests(self) -> int:
        return len(self._groups)

    def groups(self) -> list[Group]:
        return list(self._groups.values())

    def get(self, request_id: str) -> Lease | None:
        return self._leases.get(request_id)

    def group(self, name: str) -> Group | None:
        return self._groups.get(name)

    def with_key(self, client: str, key: str) -> Group | None:
        """The client's request that has this Idempotency-Key and is at work."""
        group = self._keys.get((client, key)) if key else None
        return group if group is not None and group.verdict is None else None

    def open(self, group: Group) -> None:
        self._groups[group.name] = group
        if group.key:
            self._keys[group.client, group.key] = group

    def add(self, lease: Lease, request_id: str) -> None:
        self._leases[request_id] = lease
        lease.group.leases[request_id] = lease

    def pop(self, request_id: str) -> Lease | None:
        """Its client is served or gone; None for one that was refused."""
        lease = self._leases.pop(request_id, None)
        if lease is None:
            return None
        group = lease.group
        del group.leases[request_id]
        if not group.leases:
            del self._groups[group.name]
            if self._keys.get((group.client, group.key)) is group:
                del self._keys[group.client, group.key]
        return lease

    def __iter__(self) -> Iterator[Lease]:
        return iter(list(self._leases.values()))


def priority_of(ask: admission.Submit) -> Priority:
    asked = ask.generation
    return asked.priority if isinstance(asked, Generation) else "interactive"
