"""Admits or refuses, lets wait in turn, routes, cancels; and counts what is in flight down to the last byte."""

from collections.abc import Mapping
from itertools import count
from typing import assert_never

from lmx.actors import metrics
from lmx.actors.alarm import Alarm
from lmx.actors.base import House, MachineActor
from lmx.actors.dispatcher import Dispatcher
from lmx.actors.fallbacks import Fallbacks, Relays
from lmx.actors.lane import Lane
from lmx.actors.leases import Group, Lease, Leases, priority_of
from lmx.actors.messages import admission, caller, client, model, server
from lmx.actors.messages.ref import Ref
from lmx.machines import admission as rules
from lmx.machines.admission import AdmissionMachine, Limits, TellDrained
from lmx.machines.base import Effect
from lmx.machines.places import Places
from lmx.machines.types import Failure, FailureKind, Refusal, RefusalKind

SHUT = Refusal(RefusalKind.DRAINING, "The server is shutting down and loads no models.", 5.0)
DUPLICATE = Refusal(RefusalKind.DUPLICATE, "A request with the same Idempotency-Key is still being answered.")
SUPERSEDED = Failure(FailureKind.SUPERSEDED, "The same request was sent again, and that one goes on.", retry=False)
BROKEN = Failure(FailureKind.INTERNAL, "lmx had an internal error and lost track of the request.")


class AdmissionActor(MachineActor[admission.Message]):
    def __init__(
        self,
        house: House,
        models: Mapping[str, Ref[model.Message]],
        limits: Limits,
        request_seconds: float,
        queue_seconds: float = 30.0,
    ) -> None:
        """`request_seconds` is how long one request may take from here to its last token, `queue_seconds` its wait."""
        super().__init__("admission", house, lambda *_: _never())
        self._models = models
        self._limits = limits
        self._request_seconds = request_seconds
        self._queue_seconds = queue_seconds
        self._seqs = count(1)
        self._alarm: Alarm[admission.Message] = Alarm(house.timers, house.clock, self.myself, admission.TimeIsUp)
        self._pressed = False
        self._routes: dict[str, admission.Route] = {}
        self._server: Ref[server.Message] | None = None

    def make_machine(self) -> AdmissionMachine:
        return AdmissionMachine()

    def set_up(self) -> None:
        self._leases = Leases()
        self._places = Places()
        relays = Relays(self._routes, self.myself)
        self._dispatcher = Dispatcher(self._models, self.house.clock, self.decide, relays)
        self._fallbacks = Fallbacks(self._routes, self._leases, self._dispatcher, self.decide)
        for route in self._routes.values():
            self._dispatcher.route(route.alias, route.model, [])
        self._dispatcher.press(self._pressed)
        for ref in self._models.values():
            ref.tell(model.Watch(self.myself))
        super().set_up()
        if self._server is not None:  # it crashed while it drained: that is over now, for no lease is left
            self.receive(admission.Drain(self._server))

    def clean_up(self) -> None:
        for lease in self._leases:
            if lease.ask is not None:
                lease.ask.reply_to.tell(client.Failed(BROKEN))
        for seq, lane in self._dispatcher.runs():
            if lane.ref is not None:
                lane.ref.tell(model.Abort(seq, BROKEN))

    def lost(self, message: admission.Message) -> None:
        failure = Failure(FailureKind.INTERNAL, "lmx had an internal error while it took the request.")
        match message:
            case admission.Submit(request_id, reply_to=reply_to):
                if request_id not in self._leases:
                    reply_to.tell(client.Failed(failure))
            case admission.Declined(ask):
                ask.reply_to.tell(client.Failed(failure))
            case (
                admission.LoadModel(name, reply_to=reply_to)
                | admission.UnloadModel(name, reply_to=reply_to)
                | admission.AdaptModel(name, reply_to=reply_to)
            ):
                reply_to.tell(caller.Refused(name, Refusal(RefusalKind.MODEL_UNLOADED, failure.message, 2.0)))

    def receive(self, message: admission.Message) -> None:
        match message:
            case admission.Submit():
                self._submit(message)
            case admission.Cancel(request_id):
                self._end(request_id, cancel=True)
            case admission.Release(request_id):
                self._end(request_id, cancel=False)
            case admission.Began(seq, tokens):
                self._dispatcher.began(seq, tokens)
            case admission.Ended(seq, tokens):
                self._dispatcher.ended(seq, tokens)
                self._weigh()
            case admission.TimeIsUp(number):
                if self._alarm.rang(number):
                    self._look_at_all()
            case admission.Capacity(name, slots):
                self._dispatcher.capacity(name, slots)
                self._weigh()
            case admission.Refusing(name, refusal):
                self._refuse_waiting(name, refusal)
            case admission.Declined():
                self._fallbacks.declined(message)
                self._weigh()
            case admission.Route():
                self._reroute(message)
            case admission.SetPressure(shedding):
                self._pressed = shedding
                self._dispatcher.press(shedding)
            case admission.LoadModel(name, reply_to):
                self._bring_up(name, model.Load(by_admin=True, reply_to=reply_to), reply_to)
            case admission.AdaptModel(name, adapters, reply_to):
                self._bring_up(name, model.Adapt(adapters, reply_to), reply_to)
            case admission.UnloadModel(name, reply_to, gently):
                self._pass_on(name, model.Retire(reply_to) if gently else model.Unload(reply_to), reply_to)
            case admission.Drain(reply_to):
                self._drain(reply_to)
            case _:
                assert_never(message)

    def perform(self, effect: Effect) -> None:
        match effect:
            case TellDrained():
                assert self._server is not None
                self._server.tell(server.AdmissionDrained())
            case _:
                raise TypeError(f"admission: unknown effect {effect!r}")

    def _submit(self, ask: admission.Submit) -> None:
        group = self._leases.group(ask.group or ask.request_id) or self._admit(ask)
        if isinstance(group, Refusal):
            metrics.REFUSALS.labels(group.kind.value).inc()
            ask.reply_to.tell(client.Refused(group))
            return
        lease = Lease(next(self._seqs), ask, group)
        self._leases.add(lease, ask.request_id)
        if group.verdict is not None:
            lease.ask, lease.phase = None, "over"
            ask.reply_to.tell(group.verdict)
            return
        self._dispatcher.enqueue(lease)
        self._dispatcher.flow(group.lane)
        self._weigh()

    def _admit(self, ask: admission.Submit) -> Group | Refusal:
        """The first sequence of a request decides for all of them."""
        lane = self._dispatcher.lane(ask.model)
        if lane is None:
            return rules.unknown(ask.model)
        older = self._leases.with_key(ask.client, ask.key)
        if older is not None and self.decide(rules.duplicate, retry=ask.retry) == "refuse":
            return DUPLICATE
        if (refusal := self._judge(ask, lane, replaces=older is not None)) is not None:
            return refusal
        now = self.house.clock.monotonic()
        place = self._place(ask, older, now)
        seconds = min(ask.seconds or self._request_seconds, self._request_seconds)
        name = ask.group or ask.request_id
        group = Group(name, ask.client, ask.model, lane, priority_of(ask), now, now + seconds, ask.key, place)
        self._leases.open(group)
        self._alarm.at(self._over_at(group, now))
        return group

    def _place(self, ask: admission.Submit, older: Group | None, now: float) -> int:
        """Where a request goes on waiting that has waited before: in an `older` one's place, which ends here."""
        if older is not None:
            self._conclude(older, client.Failed(SUPERSEDED))
            return older.place or min(lease.seq for lease in older.leases.values())
        return self._places.take(ask.client, ask.model, ask.generation, now) if ask.retry else 0

    def _judge(self, ask: admission.Submit, lane: Lane, *, replaces: bool) -> Refusal | None:
        """One that `replaces` another needs no room of its own."""
        waits = not replaces and (bool(len(lane.queue)) or not lane.has_room)
        batch, in_flight = priority_of(ask) == "batch", self._leases.requests - replaces
        known = self._dispatcher.prospects(lane, ask.client, waits=waits, batch=batch, in_flight=in_flight)
        pressed = self._pressed and not replaces
        return self.decide(rules.judge, state=self.machine.current, pressed=pressed, ask=known, limits=self._limits)

    def _end(self, request_id: str, *, cancel: bool) -> None:
        """The client is served or gone. A request that was refused holds no lease."""
        lease = self._leases.pop(request_id)
        if lease is None:
            return
        if lease.phase == "waiting":
            self._keep_place(lease)
            self._dispatcher.leave(lease, "cancelled")
            self._dispatcher.forgo(lease.group.lane)
        elif lease.phase == "running" and cancel:
            self._dispatcher.tell(lease.seq, model.Cancel(lease.seq))
        self._weigh()

    def _keep_place(self, lease: Lease) -> None:
        """Its client may come again: it has waited already."""
        assert lease.ask is not None
        group, now = lease.group, self.house.clock.monotonic()
        self._places.leave(group.client, group.model, lease.ask.generation, group.place or lease.seq, now)

    def _reroute(self, route: admission.Route) -> None:
        self._routes[route.alias] = route
        self._dispatcher.route(route.alias, route.model, self._leases.groups())
        self._look_at_all()
        self._weigh()

    def _look_at_all(self) -> None:
        now = self.house.clock.monotonic()
        for group in self._leases.groups():
            if group.verdict is None:
                self._look_at(group, now)

    def _look_at(self, group: Group, now: float) -> None:
        """End a request whose time is over; look again when that may be so."""
        over_at = self._over_at(group, now)
        if now >= group.deadline:
            text = f"The request took longer than {group.deadline - group.since:g} s and was aborted."
            self._conclude(group, client.Failed(Failure(FailureKind.TIMEOUT, text)))
        elif now >= over_at:
            self._conclude(group, client.Refused(self._too_late(group)))
        else:
            self._alarm.at(over_at)

    def _over_at(self, group: Group, now: float) -> float:
        """When a request's time is over, unless something happens before: it begins, or its model opens or closes."""
        if group.begun:
            return group.deadline
        waited = group.lane.has_waited(now - group.since, now)
        return min(group.deadline, now + self._queue_seconds - waited)

    def _too_late(self, group: Group) -> Refusal:
        for lease in group.leases.values():
            if lease.phase == "waiting":
                self._keep_place(lease)
        again = rules.wait_seconds(len(group.lane.queue), group.lane.seconds_each, group.lane.limit)
        text = f"It waited {self._queue_seconds:g} s for its turn, which is as long as it may."
        return Refusal(RefusalKind.QUEUE_TIMEOUT, text, again)

    def _conclude(self, group: Group, verdict: client.Refused | client.Failed) -> None:
        """End a request by our own will: what waits is told so, and what runs is aborted with a failure."""
        failed = isinstance(verdict, client.Failed)
        if isinstance(verdict, client.Refused):
            metrics.REFUSALS.labels(verdict.refusal.kind.value).inc()
        group.verdict = verdict
        for lease in group.leases.values():
            if lease.ask is not None:
                reply_to = lease.ask.reply_to
                self._dispatcher.leave(lease, "failed" if failed else "refused")
                reply_to.tell(verdict)
            elif lease.phase == "running" and isinstance(verdict, client.Failed):
                self._dispatcher.tell(lease.seq, model.Abort(lease.seq, verdict.failure))
        self._dispatcher.forgo(group.lane)
        self._weigh()

    def _refuse_waiting(self, name: str, refusal: Refusal) -> None:
        """Also the rest of a request that has begun: it is refused with what waits in the model."""
        lane = self._dispatcher.lane(name)
        for group in self._leases.groups():
            if group.lane is not lane or group.verdict is not None or not group.waits:
                continue
            if (final := self._fallbacks.refusal(group, name, refusal)) is not None:
                self._conclude(group, client.Refused(final))

    def _drain(self, reply_to: Ref[server.Message]) -> None:
        self._server = reply_to
        self.feed("drain", f"{self._leases.requests} requests are in flight")
        for group in self._leases.groups():
            if (verdict := group.at_drain()) is not None:
                self._conclude(group, verdict)
        self._weigh()

    def _weigh(self) -> None:
        metrics.IN_FLIGHT.set(len(self._leases))
        while event := rules.pressure(
            self.machine.current, self._leases.requests, self._dispatcher.waiting, self._limits
        ):
            self.feed(event, f"{self._leases.requests} requests are here, {self._dispatcher.waiting} of them wait")

    def _bring_up(self, name: str, message: model.Message, reply_to: Ref[caller.Reply]) -> None:
        if self.machine.current in ("draining", "closed"):
            reply_to.tell(caller.Refused(name, SHUT))
        else:
            self._pass_on(name, message, reply_to)

    def _pass_on(self, name: str, message: model.Message, reply_to: Ref[caller.Reply]) -> None:
        ref = self._models.get(name)
        if ref is None:
            reply_to.tell(caller.Refused(name, rules.unknown(name)))
        else:
            ref.tell(message)


def _never() -> admission.Message:
    raise AssertionError("no admission state has a deadline")
