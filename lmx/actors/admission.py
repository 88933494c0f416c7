"""Admits or refuses, routes, cancels, and counts what is in flight from admission to the last byte."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from lmx.actors import metrics
from lmx.actors.base import House, MachineActor
from lmx.actors.messages import admission, caller, client, model, server
from lmx.actors.messages.ref import Ref
from lmx.machines.admission import AdmissionMachine, Limits, TellDrained, judge, pressure
from lmx.machines.base import Effect
from lmx.machines.types import Failure, FailureKind, Refusal, RefusalKind

SMOOTHING = 0.1
"""Weight of the newest request in the running estimate of how long one takes."""

SHUT = Refusal(RefusalKind.DRAINING, "The server is shutting down and loads no models.", 5.0)


@dataclass(frozen=True, slots=True)
class Lease:
    """A sequence's hold on its model."""

    seq: int
    model: Ref[model.Message]
    client: str
    group: str
    since: float


class AdmissionActor(MachineActor[admission.Message]):
    def __init__(
        self, house: House, models: Mapping[str, Ref[model.Message]], limits: Limits, request_seconds: float
    ) -> None:
        """`request_seconds` is how long one request may take from here to its last token."""
        super().__init__("admission", house, lambda *_: _never())
        self._models = models
        self._limits = limits
        self._request_seconds = request_seconds
        self._next_seq = 0
        self._server: Ref[server.Message] | None = None

    def make_machine(self) -> AdmissionMachine:
        return AdmissionMachine()

    def set_up(self) -> None:
        self._leases: dict[str, Lease] = {}
        self._groups: Counter[str] = Counter()
        """Leases of each request: the limits count requests, however many sequences they have."""
        self._of_client: Counter[str] = Counter()
        self._seconds_each = 1.0
        super().set_up()
        if self._server is not None:  # it crashed while it drained: that is over now, for no lease is left
            self.receive(admission.Drain(self._server))

    def clean_up(self) -> None:
        for lease in self._leases.values():
            text = "lmx had an internal error and lost track of the request."
            lease.model.tell(model.Abort(lease.seq, Failure(FailureKind.INTERNAL, text)))

    def lost(self, message: admission.Message) -> None:
        failure = Failure(FailureKind.INTERNAL, "lmx had an internal error while it took the request.")
        match message:
            case admission.Submit(request_id, reply_to=reply_to):
                if request_id not in self._leases:
                    reply_to.tell(client.Failed(failure))
            case (
                admission.LoadModel(name, reply_to=reply_to)
                | admission.UnloadModel(name, reply_to=reply_to)
                | admission.AdaptModel(name, reply_to=reply_to)
            ):
                reply_to.tell(caller.Refused(name, Refusal(RefusalKind.MODEL_UNLOADED, failure.message, 2.0)))
            case _:
                pass

    def receive(self, message: admission.Message) -> None:
        match message:
            case admission.Submit():
                self._submit(message)
            case admission.Cancel(request_id):
                self._end(request_id, cancel=True)
            case admission.Release(request_id):
                self._end(request_id, cancel=False)
            case admission.Expired(request_id, seq):
                self._expired(request_id, seq)
            case admission.LoadModel(name, reply_to):
                self._bring_up(name, model.Load(by_admin=True, reply_to=reply_to), reply_to)
            case admission.AdaptModel(name, adapters, reply_to):
                self._bring_up(name, model.Adapt(adapters, reply_to), reply_to)
            case admission.UnloadModel(name, reply_to):
                self._route(name, model.Unload(reply_to), reply_to)
            case admission.Drain(reply_to):
                self._server = reply_to
                self.feed("drain", f"{len(self._groups)} requests are in flight")
                self._weigh()
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
        ref = self._models.get(ask.model)
        group = ask.group or ask.request_id
        refusal = self._judge(ask.client, group) if ref is not None else unknown(ask.model)
        if ref is None or refusal is not None:
            assert refusal is not None
            metrics.REFUSALS.labels(refusal.kind.value).inc()
            ask.reply_to.tell(client.Refused(refusal))
            return
        self._next_seq += 1
        self._of_client[ask.client] += group not in self._groups
        self._groups[group] += 1
        self._leases[ask.request_id] = Lease(self._next_seq, ref, ask.client, group, self.house.clock.monotonic())
        ref.tell(model.Serve(self._next_seq, ask.generation, ask.reply_to))
        self.house.timers.after(self._request_seconds, self.myself, admission.Expired(ask.request_id, self._next_seq))
        self._weigh()

    def _expired(self, request_id: str, seq: int) -> None:
        lease = self._leases.get(request_id)
        if lease is not None and lease.seq == seq:
            text = f"The request took longer than {self._request_seconds:g} s and was aborted."
            lease.model.tell(model.Abort(seq, Failure(FailureKind.TIMEOUT, text)))

    def _judge(self, asks: str, group: str) -> Refusal | None:
        if group in self._groups:
            return None
        return judge(self.machine.current, len(self._groups), self._of_client[asks], self._seconds_each, self._limits)

    def _end(self, request_id: str, *, cancel: bool) -> None:
        """The client is served or gone. A request that was refused holds no lease."""
        lease = self._leases.pop(request_id, None)
        if lease is None:
            return
        over = _is_last(self._groups, lease.group)
        if over:
            _is_last(self._of_client, lease.client)
        if cancel:
            lease.model.tell(model.Cancel(lease.seq))
        elif over:
            took = self.house.clock.monotonic() - lease.since
            self._seconds_each += SMOOTHING * (took - self._seconds_each)
        self._weigh()

    def _weigh(self) -> None:
        metrics.IN_FLIGHT.set(len(self._leases))
        while event := pressure(self.machine.current, len(self._groups), self._limits):
            self.feed(event, f"{len(self._groups)} requests are in flight")

    def _bring_up(self, name: str, message: model.Message, reply_to: Ref[caller.Reply]) -> None:
        if self.machine.current in ("draining", "closed"):
            reply_to.tell(caller.Refused(name, SHUT))
        else:
            self._route(name, message, reply_to)

    def _route(self, name: str, message: model.Message, reply_to: Ref[caller.Reply]) -> None:
        ref = self._models.get(name)
        if ref is None:
            reply_to.tell(caller.Refused(name, unknown(name)))
        else:
            ref.tell(message)


def _is_last(counter: Counter[str], key: str) -> bool:
    """Count one less; whether it was the last one."""
    counter[key] -= 1
    if counter[key]:
        return False
    del counter[key]
    return True


def unknown(name: str) -> Refusal:
    shown = name if len(name) <= 100 else name[:100] + "…"
    text = f"The model `{shown}` does not exist or you do not have access to it."
    return Refusal(RefusalKind.MODEL_NOT_FOUND, text, param="model")


def _never() -> admission.Message:
    raise AssertionError("no admission state has a deadline")
