"""Lets sequences wait in the lanes of their models, and gives each model as many as it takes, in turn."""

from collections.abc import Callable, Iterator, Mapping
from typing import ParamSpec, Protocol, TypeVar

from lmx.actors.lane import Lane
from lmx.actors.leases import Group, Lease, Run
from lmx.actors.messages import admission, client, model
from lmx.actors.messages.ref import Ref
from lmx.actors.ports import Clock
from lmx.machines import concurrency, queue
from lmx.machines.admission import Ask
from lmx.machines.queue import Entry
from lmx.machines.types import Priority

P = ParamSpec("P")
R = TypeVar("R")


class Decide(Protocol):
    """MachineActor.decide."""

    def __call__(self, policy: Callable[P, R], *args: P.args, **inputs: P.kwargs) -> R: ...


Relaying = Callable[[admission.Submit, str], Ref[client.Event]]


def directly(ask: admission.Submit, _: str) -> Ref[client.Event]:
    return ask.reply_to


class Dispatcher:
    def __init__(
        self, models: Mapping[str, Ref[model.Message]], clock: Clock, decide: Decide, relays: Relaying = directly
    ) -> None:
        """`relays` say whom a model is to tell what becomes of a sequence."""
        self._lanes = {name: Lane(name, ref) for name, ref in models.items()}
        self._clock = clock
        self._decide = decide
        self._relays = relays
        self._routes: dict[str, str] = {}
        self._runs: dict[int, Run] = {}
        self._waiting: dict[int, Lease] = {}
        self._pressed = False

    @property
    def waiting(self) -> int:
        """Requests of which something waits."""
        return sum(lane.queue.groups for lane in self._lanes.values())

    @property
    def waiting_batch(self) -> int:
        return sum(lane.queue.requests("batch") for lane in self._lanes.values())

    def waiting_of(self, client: str) -> int:
        return sum(lane.queue.of_client(client) for lane in self._lanes.values())

    def others_waiting(self, client: str) -> int:
        """How many clients besides this one have something waiting."""
        waiting: set[str] = set()
        for lane in self._lanes.values():
            waiting.update(lane.queue.clients)
        return len(waiting - {client})

    def prospects(self, lane: Lane, client: str, *, waits: bool, batch: bool, in_flight: int) -> Ask:
        """What has to be known of a request for this lane that comes now."""
        waiting = self.waiting
        return Ask(
            waits=waits,
            batch=batch,
            in_flight=in_flight,
            waiting=waiting,
            waiting_batch=self.waiting_batch if waiting else 0,
            of_client=self.waiting_of(client) if waiting else 0,
            clients=self.others_waiting(client) if waiting else 0,
            ahead=len(lane.queue),
            seconds_each=round(lane.seconds_each, 3),
            at_once=lane.limit,
        )

    def runs(self) -> Iterator[tuple[int, Lane]]:
        """The sequences that models have been given and that have not ended."""
        return ((seq, run.lane) for seq, run in self._runs.items())

    def lane(self, name: str) -> Lane | None:
        """Of a model, or of what an alias means; None when there is no such name."""
        return self._lanes.get(self._routes.get(name, name))

    def enqueue(self, lease: Lease) -> None:
        """`flow` of its lane makes it move."""
        group = lease.group
        self._waiting[lease.seq] = lease
        group.lane.queue.add(Entry(lease.seq, group.client, group.name, group.priority, group.place))

    def leave(self, lease: Lease, outcome: str) -> None:
        """A sequence waits no longer, and never ran: that was its one outcome."""
        lane = lease.group.lane
        del self._waiting[lease.seq]
        lane.queue.remove(lease.seq)
        lane.lost(outcome)
        lane.show()
        lease.ask, lease.phase = None, "over"

    def flow(self, lane: Lane) -> None:
        """Give the model as many as it takes."""
        while len(lane.queue) and lane.has_room:
            classes = lane.queue.waiting()
            priority = next(iter(classes)) if len(classes) == 1 else self._decide(queue.turn, deficits=classes)
            self._dispatch(lane, priority)
        if len(lane.queue) and lane.concurrency is not None:
            lane.concurrency.want()
        lane.show()

    def _dispatch(self, lane: Lane, priority: Priority) -> None:
        entry, charge = lane.queue.pop(priority)
        lease = self._waiting.pop(entry.seq)
        assert lease.ask is not None
        assert lane.ref is not None
        now = self._clock.monotonic()
        waits = lane.concurrency is None or lane.running >= lane.concurrency.slots
        self._runs[lease.seq] = Run(lane, charge, lane.concurrency, now, waits, lease)
        lane.running += 1
        lane.waited(now - lease.group.since)
        ask = lease.ask
        lane.ref.tell(model.Serve(lease.seq, ask.generation, self._relays(ask, lane.name), ask.keep_alive))
        lease.ask, lease.phase, lease.group.begun = None, "running", True

    def began(self, seq: int, tokens: int) -> None:
        run = self._runs.get(seq)
        if run is None or run.began:
            return
        run.began = run.lease.group.spoke = True
        limits = run.lane.concurrency
        if limits is None or limits is not run.concurrency:
            return
        now = self._clock.monotonic()
        window = limits.began(now - run.since, tokens, waited=run.waited, now=now)
        if window is not None:
            limits.exact = self._decide(concurrency.follow, limit=limits.exact, slots=limits.slots, window=window)
            self.flow(run.lane)

    def ended(self, seq: int, tokens: int) -> None:
        """Ids that nobody knows are of a time before a crash, and ignored."""
        run = self._runs.pop(seq, None)
        if run is None:
            return
        lane, run.lease.phase = run.lane, "over"
        lane.running -= 1
        lane.queue.settle(run.charge, tokens)
        if run.concurrency is not None:
            lane.took(self._clock.monotonic() - run.since)
        self.flow(lane)
        self.forgo(lane)

    def capacity(self, name: str, slots: int) -> None:
        lane = self._lanes[name]
        if slots:
            lane.open(slots, self._clock.monotonic(), pressed=self._pressed)
        else:
            lane.close()
        self.flow(lane)

    def press(self, pressed: bool) -> None:
        """Memory is short, or is so no more."""
        self._pressed = pressed
        for lane in self._lanes.values():
            if lane.concurrency is not None:
                lane.concurrency.pressed = pressed
                self.flow(lane)

    def tell(self, seq: int, message: model.Message) -> None:
        """To the model that has been given this sequence."""
        run = self._runs.get(seq)
        if run is not None and run.lane.ref is not None:
            run.lane.ref.tell(message)

    def forgo(self, lane: Lane) -> None:
        """A model that nobody wants need not wait for its turn to load."""
        if lane.idle and lane.concurrency is None and lane.ref is not None:
            lane.ref.tell(model.Forgo())

    def route(self, alias: str, means: str | None, groups: list[Group]) -> None:
        """An alias means another model; those of `groups` that wait for it move with it. None: they are kept."""
        name = means or alias
        if name not in self._lanes:
            self._lanes[name] = Lane(name, None)
        self._routes[alias] = name
        target = self._lanes[name]
        for group in groups:
            if group.model == alias and group.lane is not target:
                self.move(group, target)
        self.flow(target)

    def move(self, group: Group, target: Lane) -> None:
        """What waits of a request; `flow` of the target makes it move on."""
        left, group.lane = group.lane, target
        for lease in group.leases.values():
            if left.queue.remove(lease.seq) is not None:
                self.enqueue(lease)
        left.show()
        self.forgo(left)
