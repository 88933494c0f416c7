"""One alias: which model it means, and its way from one to the next."""

from collections.abc import Mapping
from typing import assert_never

from lmx.actors.base import House, MachineActor
from lmx.actors.messages import admission, alias, caller, model
from lmx.actors.messages.ref import Ref
from lmx.machines import swap
from lmx.machines.base import Effect
from lmx.machines.swap import SwapMachine
from lmx.machines.types import RefusalKind


class AliasActor(MachineActor[alias.Message]):
    machine: SwapMachine

    def __init__(
        self,
        house: House,
        name: str,
        means: str,
        models: Mapping[str, Ref[model.Message]],
        admission: Ref[admission.Message],
        fallbacks: tuple[str, ...] = (),
    ) -> None:
        """`fallbacks` are asked, in this order, for what the model that it means cannot serve."""
        super().__init__(f"alias:{name}", house, alias.StateTimedOut)
        self._name = name
        self._means = means
        self._models = models
        self._admission = admission
        self._fallbacks = fallbacks
        self._asked: alias.Swap | None = None
        self._wanted = self._old = means

    def make_machine(self) -> SwapMachine:
        return SwapMachine()

    def set_up(self) -> None:
        super().set_up()
        self.note(means=self._means, wanted=None)
        self._route(self._means)

    def clean_up(self) -> None:
        """A swap that is forgotten has not happened; what was held is served by whom the alias means."""
        if self._asked is not None:
            self._tell(alias.Stayed(self._name, self._means, "lmx had an internal error during the swap."))

    def lost(self, message: alias.Message) -> None:
        if isinstance(message, alias.Swap) and message is not self._asked:
            message.reply_to.tell(alias.Stayed(self._name, self._means, "lmx had an internal error."))

    def receive(self, message: alias.Message) -> None:
        match message:
            case alias.Swap():
                self._swap(message)
            case caller.Settled(name, state):
                self._settled(name, state)
            case caller.Refused(name, refusal):
                no_room = refusal.kind == RefusalKind.INSUFFICIENT_MEMORY
                self._refused(name, refusal.message, no_room=no_room)
            case alias.StateTimedOut(generation, event):
                self.timed_out(generation, event)
            case _:
                assert_never(message)

    def perform(self, effect: Effect) -> None:
        match effect:
            case swap.LoadNew():
                self._model(self._means).tell(model.Lease(self._name, held=True))
                self._model(self._wanted).tell(model.Load(by_admin=True, reply_to=self.myself))
            case swap.LoadOld():
                self._model(self._means).tell(model.Load(by_admin=True, reply_to=self.myself))
            case swap.UnloadOld():
                self._model(self._old).tell(model.Lease(self._name, held=False))
                # By way of admission: what it still sends to the old model comes there before this.
                self._admission.tell(admission.UnloadModel(self._old, self.myself, gently=True))
            case swap.UnloadNew():
                self._model(self._wanted).tell(model.Unload())
            case swap.RouteToNew():
                self._old, self._means = self._means, self._wanted
                self.note(means=self._means)
                self._route(self._means)
            case swap.Hold():
                self._route(None)
            case swap.Release():
                self._route(self._means)
            case swap.TellMoved():
                self._tell(alias.Moved(self._name, self._means))
            case swap.TellStayed(reason):
                self._tell(alias.Stayed(self._name, self._means, reason))
            case _:
                raise TypeError(f"alias: unknown effect {effect!r}")

    def _swap(self, ask: alias.Swap) -> None:
        if self._asked is not None:
            ask.reply_to.tell(alias.Stayed(self._name, self._means, "It is being moved already."))
        elif ask.model not in self._models:
            ask.reply_to.tell(alias.Stayed(self._name, self._means, f"There is no model {ask.model}."))
        elif ask.model == self._means:
            ask.reply_to.tell(alias.Moved(self._name, self._means))
        else:
            self._asked, self._wanted, self._old = ask, ask.model, self._means
            self.note(wanted=ask.model)
            self.feed("swap", f"An admin wants it to mean {ask.model}.")

    def _route(self, model: str | None) -> None:
        """A swap moves the first of several models; those after it stay."""
        others = tuple(name for name in self._fallbacks if name != self._means)
        self.note(fallbacks=", ".join(others) or None)
        self._admission.tell(admission.Route(self._name, model, others))

    def _settled(self, name: str, state: str) -> None:
        """Answers to what an earlier swap asked for are late, and ignored."""
        where = self.machine.current
        if state == "ready" and name == self._wanted and where in ("loading", "filling"):
            self.feed("new_ready", f"{name} is ready.")
        elif state == "ready" and name == self._means and where == "reverting":
            self.feed("old_ready", f"{name} is ready again.")
        elif state == "unloaded" and name == self._old and where in ("draining", "emptying"):
            self.feed("old_gone", f"{name} is unloaded.")

    def _refused(self, name: str, reason: str, *, no_room: bool) -> None:
        where = self.machine.current
        if name == self._wanted and where == "loading" and no_room:
            self.feed("no_room", f"{name} does not fit beside {self._means}: {reason}")
        elif name == self._wanted and where in ("loading", "filling"):
            self.feed("new_failed", f"{name} did not become ready: {reason}")
        elif name == self._old and where in ("draining", "emptying"):
            self.feed("old_gone", f"{name} stays: {reason}")
        elif name == self._means and where == "reverting":
            self.feed("old_failed", f"{name} did not become ready again: {reason}")

    def _model(self, name: str) -> Ref[model.Message]:
        return self._models[name]

    def _tell(self, answer: alias.Moved | alias.Stayed) -> None:
        for name in {self._means, self._old}:  # after a move the lease is the old one's
            self._model(name).tell(model.Lease(self._name, held=False))
        if self._asked is not None:
            self._asked.reply_to.tell(answer)
        self._asked = None
        self.note(wanted=None)
