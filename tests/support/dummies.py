"""Stand-ins for the two actors that HTTP talks to. They act on threads of their own, as the real ones do."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lmx.actors.messages import admission, caller, journal
from lmx.actors.messages.client import Accepted, Delta, Event, Failed, Finished, Refused
from lmx.actors.messages.journal import Board, MachineView, Transition
from lmx.actors.messages.vitals import Look, Vitals
from lmx.machines.types import Failure, FailureKind, FinishReason, Generation, Refusal, RefusalKind, Usage
from tests.support.inbox import Inbox

Act = Callable[[admission.Submit, threading.Event], None]
"""What a sequence does, on its own thread; the event is set when it is cancelled."""


class DummyAdmission(Inbox[admission.Message]):
    """Acts out `script` for every Submit, answers loads and unloads with `reply`, and remembers all it was told."""

    def __init__(self, script: Act | None = None) -> None:
        super().__init__()
        self.script = script or says("Hello", " world")
        self.reply: Callable[[str], caller.Reply] | None = lambda model: caller.Settled(model, "ready")
        self._cancelled: dict[str, threading.Event] = {}

    def tell(self, message: admission.Message) -> None:
        super().tell(message)
        match message:
            case admission.Submit(request_id):
                cancelled = self._cancelled[request_id] = threading.Event()
                threading.Thread(target=self.script, args=(message, cancelled), daemon=True).start()
            case admission.Cancel(request_id):
                self._cancelled[request_id].set()
            case (
                admission.LoadModel(model, reply_to=reply_to)
                | admission.UnloadModel(model, reply_to=reply_to)
                | admission.AdaptModel(model, reply_to=reply_to)
            ):
                if self.reply is not None:
                    reply_to.tell(self.reply(model))
            case _:
                pass

    def submits(self) -> list[admission.Submit]:
        return [message for message in self.messages if isinstance(message, admission.Submit)]

    def generations(self) -> list[Generation]:
        """What the sequences are to be, in order."""
        return [asked for submit in self.submits() if isinstance(asked := submit.generation, Generation)]

    async def submitted(self, count: int = 1) -> list[admission.Submit]:
        """Wait, without holding up the event loop, until `count` sequences have come."""
        await asyncio.to_thread(self.wait, lambda _: len(self.submits()) >= count)
        return self.submits()

    async def ends(self, count: int = 1) -> list[admission.Release | admission.Cancel]:
        """Wait in the same way until `count` sequences are settled, and return every Release and Cancel so far."""
        await asyncio.to_thread(self.wait, lambda told: len(_ends(told)) >= count)
        return _ends(self.messages)


def _ends(told: list[admission.Message]) -> list[admission.Release | admission.Cancel]:
    return [message for message in told if isinstance(message, admission.Release | admission.Cancel)]


def tells(*events: Event) -> Act:
    """Tell these, one after the other."""

    def act(submit: admission.Submit, _: threading.Event) -> None:
        for event in events:
            submit.reply_to.tell(event)

    return act


def says(*texts: str, prompt: int = 5, cached: int = 0, reason: FinishReason = "stop") -> Act:
    """Accept, say `texts`, finish."""
    finished = Finished(reason, Usage(prompt, len(texts), cached))
    return tells(Accepted(prompt), *map(Delta, texts), finished)


def refuses(kind: RefusalKind, message: str = "No.", retry_after: float | None = None) -> Act:
    return tells(Refused(Refusal(kind, message, retry_after)))


def fails(kind: FailureKind, *texts: str, retry: bool = True) -> Act:
    """Accept, say `texts`, fail."""
    return tells(Accepted(5), *map(Delta, texts), Failed(Failure(kind, "It broke.", retry)))


def waits(gate: threading.Event, then: Act, before: tuple[Event, ...] = ()) -> Act:
    """Tell `before`, wait for `gate`, go on with `then`."""

    def act(submit: admission.Submit, cancelled: threading.Event) -> None:
        tells(*before)(submit, cancelled)
        if not gate.wait(20):
            raise AssertionError("the test never opened the gate")
        then(submit, cancelled)

    return act


def talks_until_cancelled(*, pause: float = 0.001) -> Act:
    """Accept and say something for ever; the pause is the speed of a model."""

    def act(submit: admission.Submit, cancelled: threading.Event) -> None:
        submit.reply_to.tell(Accepted(5))
        while not cancelled.wait(pause):
            submit.reply_to.tell(Delta("word "))

    return act


def is_silent(*before: Event) -> Act:
    """Tell `before`, then nothing until cancelled."""

    def act(submit: admission.Submit, cancelled: threading.Event) -> None:
        tells(*before)(submit, cancelled)
        cancelled.wait(20)

    return act


class DummyJournal:
    """Answers reads with `board`; with None it is stuck."""

    def __init__(self, *machines: MachineView, transitions: tuple[Transition, ...] = ()) -> None:
        self.board: Board | None = Board(machines, transitions)

    def tell(self, message: journal.Message) -> None:
        if isinstance(message, journal.Read) and self.board is not None:
            threading.Thread(target=message.reply_to.tell, args=(self.board,), daemon=True).start()


class DummyPhysician:
    """Sees `vitals`; with None it looks for ever."""

    def __init__(self) -> None:
        self.vitals: Vitals | None = Vitals(
            memory_total=100, memory_available=50, process_bytes=1, disk_free=10**10, files_open=10, files_limit=100
        )

    def tell(self, message: Look) -> None:
        if self.vitals is not None:
            threading.Thread(target=message.reply_to.tell, args=(self.vitals,), daemon=True).start()


def view(actor: str, state: str, machine: str = "Model", **facts: journal.Fact) -> MachineView:
    return MachineView(
        actor=actor, machine=machine, state=state, since=1.0, legal=("drain",), reason="because", facts=facts
    )


@contextmanager
def gate() -> Iterator[threading.Event]:
    """An event that is set at the latest when the test ends, so that no thread outlives it."""
    event = threading.Event()
    try:
        yield event
    finally:
        event.set()
