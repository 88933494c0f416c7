"""Programs that ask, read and sometimes leave: what HTTP is elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from lmx.actors.messages import admission, client
from lmx.actors.messages.ref import Ref
from lmx.machines.types import Chat, FailureKind, Generation, Sampling
from tests.chaos.simulated.world import World

_names = count()
GONE_SECONDS = 0.5
"""After which nobody writes for a client that has left."""


@dataclass
class Asked:
    """One request, and all that its client was told."""

    name: str
    model: str
    tokens: int
    request_id: str
    text: str = ""
    outcome: client.Outcome | None = None
    left: bool = False
    at: float = 0.0
    ended_at: float = 0.0
    events: list[client.Event] = field(default_factory=list)

    @property
    def whole(self) -> str:
        return "".join(f"{self.name}:{index} " for index in range(self.tokens))

    @property
    def open(self) -> bool:
        return self.outcome is None and not self.left


class Clients:
    def __init__(self, world: World, entry: Ref[admission.Message], writes_for: Callable[[str], bool]) -> None:
        """`writes_for(name)`: whether a worker that is awake has this request."""
        self._writes_for = writes_for
        self.asked: list[Asked] = []
        self._world = world
        self._entry = entry

    def ask(self, model: str, *, name: str = "", patience: float | None = None, who: str = "") -> Asked:
        """`patience`: seconds after which the client leaves."""
        world = self._world
        number = next(_names)
        one = Asked(name or f"r{number}", model, world.random.randint(1, 60), f"id{number}", at=world.now)
        self.asked.append(one)
        generation = Generation(
            prompt=Chat(({"role": "user", "content": one.name},)),
            max_tokens=one.tokens,
            sampling=Sampling(temperature=0.0),
            priority=world.random.choice(("interactive", "interactive", "batch")),
        )
        who = who or world.random.choice(("ann", "bob", "cy"))
        self._entry.tell(admission.Submit(one.request_id, model, who, generation, Reader(self, one)))
        if patience is not None:
            world.later(patience, lambda: self._leave(one))
        return one

    def hear(self, one: Asked, event: client.Event) -> None:
        """Once its outcome is there nothing more may come; while there is none its text must grow rightly."""
        if one.left:
            return
        if one.outcome is not None:
            self._world.violated(f"{one.name} was told {event} after {one.outcome}")
        one.events.append(event)
        match event:
            case client.Delta(text):
                one.text += text
                if not one.whole.startswith(one.text):
                    self._world.violated(f"{one.name} reads {one.text[-60:]!r}, which is not its own text")
            case client.Finished() | client.Refused() | client.Failed():
                self._end(one, event)

    def _end(self, one: Asked, outcome: client.Outcome) -> None:
        one.outcome, one.ended_at = outcome, self._world.now
        if isinstance(outcome, client.Finished):
            if one.text != one.whole:
                self._world.violated(f"{one.name} finished with {one.text!r} of {one.whole!r}")
            if outcome.usage.completion_tokens != one.tokens:
                self._world.violated(f"{one.name} has {one.tokens} tokens, but {outcome.usage} was told")
        if isinstance(outcome, client.Refused) and one.text:
            self._world.violated(f"{one.name} was refused after {one.text!r}")
        if isinstance(outcome, client.Failed) and outcome.failure.kind == FailureKind.INTERNAL:
            one.left = True  # an actor crashed: it was told, and that is all that is promised
        self._world.later(self._world.random.uniform(0, 0.2), lambda: self._settle(one))

    def _settle(self, one: Asked) -> None:
        self._entry.tell(admission.Release(one.request_id))

    def _leave(self, one: Asked) -> None:
        if one.open:
            one.left = True
            self._entry.tell(admission.Cancel(one.request_id))
            self._world.later(GONE_SECONDS, lambda: self._check_gone(one))

    def _check_gone(self, one: Asked) -> None:
        if self._world.now - self._world.woke_at < GONE_SECONDS:
            self._world.later(GONE_SECONDS, lambda: self._check_gone(one))
        elif self._writes_for(one.name):
            self._world.violated(f"{one.name} left {GONE_SECONDS:g} s ago, and a worker still writes for it")


class Reader:
    """A sink of one request."""

    def __init__(self, clients: Clients, one: Asked) -> None:
        self._clients = clients
        self._one = one

    def tell(self, message: client.Event) -> None:
        self._clients.hear(self._one, message)
