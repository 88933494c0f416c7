"""One model as the loader and the admins see it: how it comes into memory, stays there, and goes."""

from msgspec.structs import replace

from lmx.actors import metrics
from lmx.actors.callers import Nobody
from lmx.actors.messages import caller, model, state
from lmx.actors.messages.ref import Ref
from lmx.actors.serving import SHUT, Serving
from lmx.machines.types import Failure, FailureKind, Refusal, RefusalKind

STOP_LOADING_SECONDS = 1.0
WANTED = Refusal(RefusalKind.MODEL_UNLOADED, "Somebody else wants it loaded.")
RELOADABLE = ("queued", "backoff", "failed", "quarantined", "killed", "unkillable")
"""States without a worker that somebody wants, and in which somebody may want one."""


class Housing(Serving):
    """The second layer of a model's actor."""

    def _load(self, by_admin: bool, reply_to: Ref[caller.Reply] | None) -> None:
        self._callers.add("ready", reply_to)
        self._kept = True
        self._stays()
        state = self.machine.current
        if self._shut:
            self._callers.refuse(SHUT)
            return
        if by_admin and state not in ("loading", "warming", "canary", "ready"):
            self._wish.by_admin = True
        if state == "ready":
            self._callers.settle("ready")
        elif by_admin and state == "queued":
            self._wish.withdraw()  # that one is not an admin's
            self._ask_loader()
        elif state == "unloaded":
            self._wish.preload = not by_admin
            self.feed("request", "An admin asked for it." if by_admin else "It is to be loaded from the start.")
        elif by_admin and state in ("failed", "quarantined"):
            self.feed("release", "An admin released it.")
        elif isinstance(answer := self.machine.answer(), Refusal):
            self._callers.refuse(answer)

    def _unload(self, reply_to: Ref[caller.Reply] | None, reason: str) -> None:
        self._callers.refuse(Refusal(RefusalKind.MODEL_UNLOADED, reason, 2.0))
        self._callers.add("unloaded", reply_to)
        self._wish.forget()
        self._kept = False
        state = self.machine.current
        if state == "unloaded":
            self._callers.settle("unloaded")
        elif state not in ("draining", "unloading"):
            self.feed("drain", reason)
        self._settle()

    def _adapt(self, ask: model.Adapt) -> None:
        self.spec = replace(self.spec, adapters=ask.adapters)
        self._facts.wanted(self.spec)
        if self.machine.current in ("loading", "warming", "canary", "ready"):
            self.feed("drain", "Its adapters change.")
            self._load(True, ask.reply_to)
            self._settle()
        elif self.machine.current in RELOADABLE or self._callers.wait_for("ready"):
            self.sequences.fail(Failure(FailureKind.ABORTED, "Its adapters change."), begun_only=True)
            self._load(True, ask.reply_to)
        else:
            self._unload(ask.reply_to, "")

    def _shut_down(self, reply_to: Ref[caller.Reply]) -> None:
        """The daemon stops. A load need not be asked for long: nothing of it is worth keeping."""
        self._shut, loading = True, self.machine.current in ("loading", "warming", "canary")
        self.sequences.fail(Failure(FailureKind.ABORTED, SHUT.message), begun_only=False)
        self._unload(reply_to, SHUT.message)
        if loading:
            self.schedule(STOP_LOADING_SECONDS, "timed_out")

    def _evict(self) -> None:
        if self.machine.current == "ready" and not len(self.sequences):
            self._unload(None, "The loader needs its memory for another model.")
        elif self.machine.current == "unloaded":
            self._wish.give_back()
        elif self.machine.current not in ("draining", "unloading"):
            self._wish.stay()

    def _forgo(self) -> None:
        wanted = self._kept or len(self.sequences) or self._callers.wait_for("ready")
        if self.machine.current == "queued" and not wanted:
            self.feed("forgone", "Nobody waits for it any more.")

    def _awaits(self, ticket: int) -> bool:
        """Whether the loader answers the wish at hand, and not one that was withdrawn meanwhile."""
        return self.machine.current == "queued" and self._wish.is_at_hand(ticket)

    def _granted(self, ticket: int) -> None:
        if self._awaits(ticket):
            self.feed("granted", "It is its turn to load.")
        else:
            self._wish.withdraw(ticket)

    def _open(self) -> None:
        self.house.state.tell(state.ModelLoaded(self.spec.name))
        self.note(held_back=None)
        self._canary.opened()
        self._ready_since, self._ready_until = self.house.clock.monotonic(), None
        self._wish.loaded()
        self._kept = False
        self._callers.settle("ready")
        self._turnstile.open()
        self._go_on()
        if not len(self.sequences):
            self._rest()

    def _closed(self) -> None:
        self.note(retry_at=None)
        if not self._shut:  # the end of the daemon is not that of the wish to have it loaded
            self.house.state.tell(state.ModelUnloaded(self.spec.name))
        self._callers.settle("unloaded")
        if self._shut:
            self.sequences.refuse_waiting(SHUT)
            self._callers.refuse(SHUT)
        elif len(self.sequences) or self._callers.wait_for("ready"):
            self.feed("request", "Somebody waits for it.")

    def _settle(self) -> None:
        """Sequences ended: the model may be idle, or drained."""
        self._note_in_flight()
        if not len(self.sequences):
            self._retire()
            self._rest()
            self._canary.rests()
            if self.sequences.doubtful and self._is_idle():
                self._canary.sing_idle(self._sang)
        self._go_on()
        if self.machine.current == "draining" and not self.sequences.unfinished():
            self.feed("drained", "Nothing runs any more.")

    def _retire(self) -> None:
        retiring, self._retiring = self._retiring, ()
        for reply_to in retiring:
            self._unload(reply_to, "Another model takes its place.")

    def _stays(self) -> None:
        """Somebody wants it loaded: who wants it gone need not wait for that."""
        retiring, self._retiring = self._retiring, ()
        for reply_to in retiring:
            reply_to.tell(caller.Refused(self.spec.name, WANTED))

    def _rest(self) -> None:
        """Nothing is served: from now on the model may have to go, for others or for its age."""
        self._wish.in_use(False)
        if self._is_idle() and self._keeping.why_recycle:
            self._recycle(self._keeping.why_recycle)
        elif self._is_idle():
            self._keeping.idle()

    def _recycle(self, reason: str) -> None:
        """Nobody is to fail for it: a model that serves something goes on until it does not."""
        if self._is_idle():
            self._keeping.forget()
            metrics.RECYCLES.labels(self.spec.name).inc()
            self.feed("drain", reason)
            self._load(True, Nobody())
            self._settle()
        elif self.machine.current == "ready":
            self._keeping.why_recycle = reason
