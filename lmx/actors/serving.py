"""One model as its sequences see it: they wait for it, run in its worker, and go on in the next one."""

from abc import abstractmethod
from random import Random

from msgspec.structs import replace

from lmx.actors.base import House, MachineActor
from lmx.actors.callers import Callers
from lmx.actors.canary import Canary
from lmx.actors.deaths import Deaths
from lmx.actors.dossier import BLANK, Dossier
from lmx.actors.facts import Facts
from lmx.actors.keeping import Keeping
from lmx.actors.messages import caller, loader, model
from lmx.actors.messages.ref import Ref
from lmx.actors.ports import Launcher, Scales
from lmx.actors.pulse import Pulse
from lmx.actors.seat import Seat
from lmx.actors.sequences import Sequences
from lmx.actors.slots import Slots
from lmx.actors.turnstile import Turnstile
from lmx.actors.ward import Ward
from lmx.actors.wish import Wish
from lmx.machines import frames
from lmx.machines.canary import Record
from lmx.machines.liveness import USUAL, Patience
from lmx.machines.model import ModelMachine
from lmx.machines.suspects import Suspects, judge
from lmx.machines.types import Failure, FailureKind, ModelSpec, Refusal, RefusalKind

LOST = Refusal(RefusalKind.MODEL_UNLOADED, "lmx had an internal error and lost the state of this model.", 2.0)
SHUT = Refusal(RefusalKind.DRAINING, "The server is shutting down.", 5.0)


class Serving(MachineActor[model.Message]):
    """The first of three layers of a model's actor: what it consists of, and its sequences."""

    machine: ModelMachine

    def __init__(
        self,
        house: House,
        spec: ModelSpec,
        scales: Scales,
        record: Record | None,
        loader: Ref[loader.Message],
        launcher: Launcher,
        random: Random,
        dossier: Dossier = BLANK,
        patience: Patience = USUAL,
    ) -> None:
        """`scales` tell what a load reserves; `record` the canary's known answer, if there is one."""
        super().__init__(f"model:{spec.name}", house, model.StateTimedOut)
        self.spec = spec
        self._wish = Wish(lambda: self.spec, scales, loader)
        self._keeping = Keeping(spec, house, self.myself)
        self._random = random
        self._seat = Seat(launcher)
        self._callers = Callers(spec.name)
        self._turnstile = Turnstile(spec.name)
        self._suspects = Suspects()
        self._facts = Facts(spec.name, self.note)
        self._pulse = Pulse(house, self.myself, self._seat, patience, self.decide)
        self._slots = Slots(spec.slots, self.note, self.decide)
        self._deaths = Deaths(spec.name, self.note, self.log)
        self._canary = Canary(house, dossier, record, self.myself, self.log, self.note, self.decide, self._seat.send)
        self._ward = Ward(spec.name, house, self.note, dossier)
        barred = dossier.quarantine
        self._heir = ModelMachine.in_quarantine(barred.reason) if barred is not None else ModelMachine()
        self._restarts = 0
        self._shut = False

    def make_machine(self) -> ModelMachine:
        return self._heir

    def set_up(self) -> None:
        self._kept = False
        """Somebody who does not wait wants it loaded: not even a turn in the loader's queue is given up."""
        self._retiring: tuple[Ref[caller.Reply], ...] = ()
        """Who wants it gone as soon as it serves nothing."""
        self.sequences = Sequences(self.spec.name, self.house.clock, self._turnstile, self._suspects)
        self._canary.closed()
        self._wish.forget()
        self._wish.in_use(False)
        self._keeping.forget()
        self._ready_since: float | None = None
        self._ready_until: float | None = None
        super().set_up()
        self._facts.wanted(self.spec)
        self._ward.started()
        self.note(in_flight=0, restarts=self._restarts)
        if self.machine.current == "unloaded":
            self._callers.settle("unloaded")

    def clean_up(self) -> None:
        """A worker that still sits there is killed; its memory and its seat are given back when it has exited."""
        self.sequences.fail(Failure(FailureKind.INTERNAL, LOST.message), begun_only=False)
        self._callers.refuse(LOST)
        self._turnstile.close()
        for retiring in self._retiring:
            self._callers.add("unloaded", retiring)
        killed = self._seat.kill()
        if not killed:
            self._wish.withdraw()
            self._wish.give_back()
        self._heir = self.machine.reborn(worker=killed)

    def on_stop(self) -> None:
        super().on_stop()
        self._callers.abandon(LOST)

    @abstractmethod
    def _sang(self, error: str) -> None:
        """The canary's verdict on a model that it sang for; empty = it is well."""

    @abstractmethod
    def _settle(self) -> None:
        """Sequences ended: the model may be idle, or drained."""

    def _serve(self, ask: model.Serve) -> None:
        self.sequences.add(ask)
        barred = self._suspects.refusal(ask.generation, self.house.clock.monotonic())
        answer = SHUT if self._shut else barred or self.machine.answer()
        if answer == "serve":
            answer = self._wish.no_room(ask.generation) or answer
        if isinstance(answer, Refusal):
            self.sequences.refuse(ask.seq, answer)
        elif answer == "serve":
            self._canary.stop()
            self._go_on()
        elif self.machine.current == "unloaded":
            self.feed("request", "A request needs it.")
        if len(self.sequences):
            self._wish.in_use(True)
            self._keeping.used(ask.keep_alive)
        self._note_in_flight()

    def _ask_loader(self) -> None:
        """A worker that was killed has to be gone first, or its exit would give back what the next one has."""
        if self._seat.is_taken:
            self.schedule(ModelMachine.deadlines["killed"].seconds, "survived")
        else:
            self._wish.make(self.myself)

    def _drop(self, seq: int, failure: Failure | None) -> None:
        sequence = self.sequences.drop(seq, failure)
        if sequence is not None and sequence.inserted:
            self._seat.send(frames.Cancel(sequence.wire))
        self._settle()

    def _go_on(self) -> None:
        """Give the worker those whose turn it is; one that drains gets nobody new."""
        if self.machine.current in ("ready", "draining"):
            for order in self.sequences.due(newcomers=self.machine.current == "ready"):
                self._seat.send(order)

    def _interrupt(self, failure: Failure) -> None:
        """The worker died: what it held goes on, but for those who have killed before."""
        if batch := self.sequences.batch():
            now = self.house.clock.monotonic()
            verdict = self.decide(judge, known=self._suspects.known(batch, now), batch=batch, now=now)
            self._suspects.learn(verdict.known)
            if verdict.guilty:
                self.log.warning("requests_quarantined", requests=verdict.guilty, of=len(batch))
            self.sequences.interrupt(verdict.guilty, replace(failure, retry=False))
            self._note_in_flight()

    def _served(self) -> float:
        """Seconds that the present worker has been given something to do, if it was asked for."""
        if self._ready_since is None:
            return 0.0
        until = self.house.clock.monotonic() if self._ready_until is None else self._ready_until
        return until - self._ready_since

    def _note_in_flight(self) -> None:
        self.note(in_flight=len(self.sequences))

    def _is_idle(self) -> bool:
        return self.machine.current == "ready" and not len(self.sequences)
