"""One model's dealings with the loader: the wish at hand, and the memory that was granted for it."""

from collections.abc import Callable

from lmx.actors.messages import loader, model
from lmx.actors.messages.ref import Ref
from lmx.actors.ports import Scales
from lmx.machines.memory import has_room
from lmx.machines.prediction import tokens
from lmx.machines.tasks import Task
from lmx.machines.types import Generation, ModelSpec, Refusal, RefusalKind


class Wish:
    """Numbered, so that an answer to an earlier one is known as late."""

    def __init__(self, spec: Callable[[], ModelSpec], scales: Scales, loader: Ref[loader.Message]) -> None:
        """`spec` is asked for at every wish: adapters change it."""
        self._spec = spec
        self._name = spec().name
        self._scales = scales
        self._loader = loader
        self._ticket = 0
        self._weighing = False
        self._busy = self._serving = False
        self._leases: frozenset[str] = frozenset()
        self._trimmed = False
        self.kv_per_token = 0
        """Bytes, where a running sequence takes them token by token; 0 = not known, or all are taken at load."""
        self.by_admin = False
        """The next wish is an admin's own, and only that one."""
        self.preload = False
        """The next wish is the server's own, from its start, and only that one: nobody has to go for it."""

    def make(self, reply_to: Ref[model.Message]) -> None:
        """Ask for the turn to load: the files are weighed (`model.Weighed`), then the loader answers."""
        self._ticket += 1
        self._weighing = True
        self._scales.weigh(self._spec(), self._ticket, reply_to)

    def weighed(self, answer: model.Weighed, reply_to: Ref[model.Message]) -> Refusal | None:
        """Go on with the wish that was weighed, or say why it cannot be; late answers are ignored."""
        if not self._weighing or answer.ticket != self._ticket:
            return None
        self._weighing = False
        if answer.problem:
            return Refusal(RefusalKind.MODEL_LOAD_FAILED, answer.problem, 30.0)
        self.kv_per_token = answer.kv_per_token
        wish = loader.Acquire(
            self._name,
            self._ticket,
            answer.need_bytes,
            self.by_admin,
            reply_to,
            preload=self.preload and not self.by_admin,
            pinned=self._spec().pinned,
        )
        self.forget()
        self._loader.tell(wish)
        return None

    def no_room(self, asked: Task) -> Refusal | None:
        """Why a sequence cannot have its KV cache, where that is taken token by token; None = it probably can."""
        if not self.kv_per_token or not isinstance(asked, Generation):
            return None
        count, free = tokens(asked, self._spec().context), self._scales.free()
        if has_room(tokens=count, bytes_per_token=self.kv_per_token, free=free):
            return None
        needs = f"about {count} tokens take {count * self.kv_per_token / 1e9:.1f} GB"
        text = f"There is no memory for this request: {needs} and {free / 1e9:.1f} GB are free."
        return Refusal(RefusalKind.MEMORY_PRESSURE, text, 10.0)

    def forget(self) -> None:
        """The next wish is a request's own."""
        self.by_admin = self.preload = False

    def is_at_hand(self, ticket: int) -> bool:
        return ticket == self._ticket

    def withdraw(self, ticket: int | None = None) -> None:
        """Give up the wish with `ticket`, or the latest one, be it weighed, waiting or granted."""
        if ticket is None or ticket == self._ticket:
            self._weighing = False
        self._loader.tell(loader.Withdraw(self._name, self._ticket if ticket is None else ticket))

    def loaded(self) -> None:
        self._loader.tell(loader.Loaded(self._name))
        if self._busy:
            self._loader.tell(loader.BecameBusy(self._name))

    def give_back(self) -> None:
        """The worker's memory is free."""
        self._loader.tell(loader.Released(self._name))

    def measured(self, nbytes: int) -> None:
        """What the worker's process takes."""
        if nbytes:
            self._loader.tell(loader.Measured(self._name, nbytes, self._trimmed))
            self._trimmed = False

    def trimmed(self) -> None:
        """The worker was told to let go of what it can: the next measurement counts afresh."""
        self._trimmed = True

    def leased(self, by: str, held: bool) -> None:
        """While anybody holds a lease, it counts as busy."""
        self._leases = self._leases | {by} if held else self._leases - {by}
        self.in_use(self._serving)

    def in_use(self, serving: bool) -> None:
        """Whether anything is served; the loader is told when that changes, and at every end."""
        self._serving = serving
        busy = serving or bool(self._leases)
        if busy and not self._busy:
            self._loader.tell(loader.BecameBusy(self._name))
        elif not busy:
            self._loader.tell(loader.BecameIdle(self._name))
        self._busy = busy

    def stay(self) -> None:
        """The model is in use and keeps its memory."""
        self._loader.tell(loader.EvictionRefused(self._name))
