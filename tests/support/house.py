"""The actors of a daemon without its HTTP: real threads, real worker processes, the fake backend."""

import time
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any, TypeVar

import pykka

from lmx.actors.admission import AdmissionActor
from lmx.actors.base import Address, House
from lmx.actors.dossier import BLANK, Dossier
from lmx.actors.journal import JournalActor
from lmx.actors.loader import LoaderActor
from lmx.actors.messages import admission, caller, client, journal, state
from lmx.actors.model import ModelActor
from lmx.actors.ports import MemoryGauge, Scales
from lmx.actors.supervisor import SupervisorActor
from lmx.actors.timers import TimerThread
from lmx.machines.admission import Limits
from lmx.machines.canary import Record
from lmx.machines.liveness import USUAL, Patience
from lmx.machines.types import Adapter, Chat, Generation, ModelSpec, Sampling
from lmx.system import ProcessLauncher, SystemClock
from tests.support.inbox import Inbox
from tests.support.scales import Weighs

V = TypeVar("V")
GB = 1_000_000_000


class Plenty:
    """Memory without end."""

    def free(self) -> int:
        return 1000 * GB

    def total(self) -> int:
        return 1000 * GB


def fake(name: str, script: str = "", **fields: Any) -> ModelSpec:
    return ModelSpec(name=name, path="", backend="fake", script=script, **fields)


def ask(text: str, max_tokens: int | None = None) -> Generation:
    prompt = Chat(({"role": "user", "content": text},))
    return Generation(prompt=prompt, max_tokens=max_tokens, sampling=Sampling(temperature=0.0))


class Actors:
    def __init__(
        self,
        *specs: ModelSpec,
        gauge: MemoryGauge | None = None,
        need: int = GB,
        scales: Scales | None = None,
        record: Record | None = None,
        limits: Limits | None = None,
        request_seconds: float = 600.0,
        queue_seconds: float = 30.0,
        patience: Patience = USUAL,
        dossier: Dossier = BLANK,
    ) -> None:
        self.escalations: list[str] = []
        self._ids = count()
        self.clock = SystemClock()
        self.timers = TimerThread(self.clock)
        self.timers.start()
        self.supervisor = self._address(SupervisorActor.start(self.clock, self.escalations.append))
        self.records: Inbox[journal.Record] = Inbox()
        self.journal = self._address(JournalActor.start(self.supervisor, self.records))
        self.state: Inbox[state.Message] = Inbox()
        self.house = House(self.journal, self.state, self.supervisor, self.timers, self.clock, strict=True)
        self.models: dict[str, Address[Any]] = {}
        self.loader = self._address(LoaderActor.start(self.house, gauge or Plenty(), 0.9, self.models))
        for spec in specs:
            arguments = (self.house, spec, scales or Weighs(need), record, self.loader, ProcessLauncher(), Random(1))
            self.models[spec.name] = self._address(ModelActor.start(*arguments, dossier, patience))
        self.admission = self._address(
            AdmissionActor.start(self.house, self.models, limits or Limits(), request_seconds, queue_seconds)
        )

    def _address(self, actor: pykka.ActorRef[Any]) -> Address[Any]:
        return Address(actor)

    def close(self) -> None:
        for address in (self.admission, *self.models.values(), self.loader, self.journal, self.supervisor):
            assert address.stop(10.0)
        self.timers.stop()

    def submit(
        self, model: str, generation: Generation, client_name: str = "me", group: str = "", **terms: Any
    ) -> tuple[str, Inbox[client.Event]]:
        """`terms` are further fields of admission.Submit."""
        request_id = f"r{next(self._ids)}"
        sink: Inbox[client.Event] = Inbox()
        self.admission.tell(admission.Submit(request_id, model, client_name, generation, sink, group, **terms))
        return request_id, sink

    def load(self, model: str, seconds: float = 20.0) -> caller.Reply:
        sink: Inbox[caller.Reply] = Inbox()
        self.admission.tell(admission.LoadModel(model, sink))
        return sink.wait_for((caller.Settled, caller.Refused), seconds)

    def unload(self, model: str) -> caller.Reply:
        sink: Inbox[caller.Reply] = Inbox()
        self.admission.tell(admission.UnloadModel(model, sink))
        return sink.wait_for((caller.Settled, caller.Refused))

    def adapt(self, model: str, *adapters: Adapter) -> Inbox[caller.Reply]:
        sink: Inbox[caller.Reply] = Inbox()
        self.admission.tell(admission.AdaptModel(model, adapters, sink))
        return sink

    def board(self) -> journal.Board:
        sink: Inbox[journal.Board] = Inbox()
        self.journal.tell(journal.Read(sink))
        board: journal.Board = sink.wait_for(journal.Board)
        return board

    def view(self, actor: str) -> journal.MachineView:
        """Of an actor's machine, as soon as the actor's start has put it on the board."""
        views = self.until(lambda: [view for view in self.board().machines if view.actor == actor], bool)
        return views[0]

    def pid(self, model: str) -> int:
        """Of the model's worker."""
        pid = self.view(f"model:{model}").facts["pid"]
        assert isinstance(pid, int)
        return pid

    def await_state(self, actor: str, state: str, seconds: float = 20.0) -> journal.MachineView:
        return self.until(lambda: self.view(actor), lambda view: view.state == state, seconds)

    def until(self, read: Callable[[], V], good: Callable[[V], bool], seconds: float = 20.0) -> V:
        """Read again and again until it is good; fail after `seconds`."""
        deadline = time.monotonic() + seconds
        while not good(value := read()):
            assert time.monotonic() < deadline, value
            time.sleep(0.005)
        return value

    def path(self, actor: str) -> list[str]:
        """The states that an actor's machine went through."""
        return [moved.target for moved in self.board().transitions if moved.actor == actor]


def text_of(sink: Inbox[client.Event]) -> str:
    return "".join(event.text for event in sink.messages if isinstance(event, client.Delta))


OUTCOMES = (client.Finished, client.Refused, client.Failed)
