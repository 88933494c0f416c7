"""What actors tell the journal, and what becomes of what cannot be written down."""

import os
import signal
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest
from msgspec import Struct
from statemachine import State

from lmx.actors.base import Address
from lmx.actors.journal import JournalActor
from lmx.actors.messages import client, journal
from lmx.actors.scribe import Scribe
from lmx.machines import canary
from lmx.machines.base import Effect, Machine
from lmx.machines.crash_loop import unclean_starts
from lmx.machines.record import CannotRecordError
from lmx.machines.types import Generation, Refusal, RefusalKind, Text
from lmx.system import SystemClock
from tests.support.house import Actors, ask, fake
from tests.support.inbox import Inbox
from tests.support.records import decided, moved

Start = Callable[..., Actors]


class Ring(Effect, frozen=True):
    why: Refusal | None
    times: int


class Bell(Machine):
    still = State(initial=True)
    ringing = State()

    pull = still.to(ringing) | ringing.to.itself(internal=True)
    stop = ringing.to(still)

    remembers: ClassVar = {"pulls": int}

    def __init__(self) -> None:
        self.pulls = 0
        super().__init__()

    def on_pull(self, why: Refusal | None = None) -> None:
        self.pulls += 1
        self.emit(Ring(why, self.pulls))


class Careless(Bell):
    """Keeps something that it does not tell."""

    def __init__(self) -> None:
        self.bonus = 0
        super().__init__()

    def on_pull(self, why: Refusal | None = None) -> None:
        self.bonus += 1
        self.pulls += self.bonus


def scribe(*, strict: bool = True) -> tuple[Scribe, Inbox[Any]]:
    inbox: Inbox[Any] = Inbox()
    return Scribe("bell", inbox, SystemClock(), strict=strict), inbox


WHY = Refusal(RefusalKind.DRAINING, "Enough.", 2.0)


def test_an_event_is_told_with_its_data_its_effects_and_the_memory_afterwards() -> None:
    """All of it in values that JSON has; effects by name, with their fields."""
    writes, inbox = scribe()
    bell = Bell()
    writes.started(bell)
    assert writes.step(bell, "pull", "A guest.", {"why": WHY}) == (Ring(WHY, 1),)
    start, pulled = inbox.messages
    assert (start.source, start.target, start.memory) == ("", "still", {"pulls": 0})
    refusal = {"kind": "draining", "message": "Enough.", "retry_after": 2.0, "param": None, "tokens": None}
    assert (pulled.event, pulled.source, pulled.target, pulled.reason) == ("pull", "still", "ringing", "A guest.")
    assert pulled.data == {"why": refusal}
    assert pulled.effects == ({"Ring": {"times": 1, "why": refusal}},)
    assert pulled.memory == {"pulls": 1}
    assert pulled.exact


def test_an_internal_transition_is_told_too() -> None:
    """It may change the memory and have effects: without it a replay would go astray."""
    writes, inbox = scribe()
    bell = Bell()
    writes.started(bell)
    for _ in range(2):
        writes.step(bell, "pull", "", {})
    assert [(told.source, told.target) for told in inbox.messages[1:]] == [("still", "ringing"), ("ringing", "ringing")]


def test_inputs_are_told_as_they_were() -> None:
    """Whoever asked may change its lists afterwards."""
    writes, inbox = scribe()
    starts = [1.0, 59.0]
    assert writes.ask(unclean_starts, starts=starts, now=60.0) == 2
    starts.clear()
    [told] = inbox.messages
    assert (told.policy, told.outcome) == ("lmx.machines.crash_loop.unclean_starts", 2)
    assert told.inputs == {"starts": [1.0, 59.0], "now": 60.0}


def local(*, number: int) -> int:
    return number


class Opaque:
    """msgspec knows nothing of it."""


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda writes: writes.ask(local, number=1), "is no function of a module in lmx.machines"),
        (lambda writes: writes.ask(unclean_starts, [1.0], 2.0), "by keywords only"),
        (lambda writes: writes.ask(unclean_starts, starts=Opaque(), now=1.0), "cannot be journalled"),
        (lambda writes: writes.ask(unclean_starts, starts=[], now=float("inf")), "now cannot be made into"),
        (lambda writes: writes.ask(unclean_starts, starts=[0.0] * 100_000, now=1.0), "bytes of JSON"),
        (lambda writes: writes.ask(canary.smoke, info=Generation(prompt=Text("my secret"))), "holds what users wrote"),
    ],
    ids=["not a policy", "positional", "not JSON", "not finite", "too large", "a prompt"],
)
def test_a_strict_house_names_what_could_not_be_replayed(act: Callable[[Scribe], object], says: str) -> None:
    """In tests a decision that a replay could not repeat is an error at once."""
    writes, _ = scribe()
    with pytest.raises(CannotRecordError, match=says):
        act(writes)


def test_a_strict_house_names_a_machine_that_does_not_tell_all_it_remembers() -> None:
    """Each step is done again, by a machine that was made of state and memory."""
    writes, _ = scribe()
    careless = Careless()
    writes.started(careless)
    writes.step(careless, "pull", "", {})
    with pytest.raises(CannotRecordError, match="but replayed it leads to"):
        writes.step(careless, "pull", "", {})


def test_a_strict_house_names_a_change_without_an_event() -> None:
    """Only events change machines."""
    writes, _ = scribe()
    bell = Bell()
    writes.started(bell)
    bell.pulls = 7
    with pytest.raises(CannotRecordError, match="without an event"):
        writes.step(bell, "pull", "", {})


def test_in_production_what_cannot_be_written_down_is_left_out() -> None:
    """The actor goes on; the entry says that it is not exact and holds types only, for values may be secrets."""
    writes, inbox = scribe(strict=False)
    bell = Bell()
    writes.started(bell)
    assert writes.step(bell, "pull", "", {"other": Opaque()}) == (Ring(None, 1),)
    assert writes.ask(local, number=5) == 5
    assert isinstance(writes.ask(echo, thing=Opaque()), Opaque)
    _, pulled, _, echoed = inbox.messages
    assert (pulled.exact, pulled.data, pulled.memory) == (False, {"other": "Opaque"}, {"pulls": 1})
    assert (echoed.exact, echoed.inputs, echoed.outcome) == (False, {"thing": "Opaque"}, "Opaque")


def echo(*, thing: Any) -> Any:
    return thing


class Sets(Struct, frozen=True):
    names: frozenset[str]


def test_sets_are_told_in_order() -> None:
    """Another process would iterate over them in another one."""
    writes, inbox = scribe(strict=False)
    names: Sequence[str] = [f"n{i}" for i in range(20)]
    writes.ask(echo, thing=Sets(frozenset(names)))
    assert inbox.messages[0].outcome == {"Sets": {"names": sorted(names)}}


def test_the_store_is_given_every_record_and_the_board_shows_moves() -> None:
    """Reactions without a move and decisions are kept, not shown."""
    kept: Inbox[journal.Record] = Inbox()
    watch: Inbox[Any] = Inbox()
    actor: Address[journal.Message] = Address(JournalActor.start(watch, kept))
    records: list[journal.Record] = [
        moved(event="", source="", target="unloaded"),
        moved(1),
        moved(2, source="queued"),
        decided(),
    ]
    for record in records:
        actor.tell(record)
    board: Inbox[journal.Board] = Inbox()
    actor.tell(journal.Read(board))
    shown = board.wait_for(journal.Board)
    assert actor.stop(5.0)
    assert kept.messages == records
    assert [told.reason for told in shown.transitions] == ["number 1"]
    assert watch.messages == []


def test_nothing_that_users_write_gets_into_the_journal(start: Start) -> None:
    """Whatever actors decide about requests, their text is not part of it."""
    house = start(fake("m", "step=0.01"))
    _, sink = house.submit("m", ask("xyzzy plugh"))
    sink.wait_for(client.Finished)
    _, running = house.submit("m", ask("xyzzy " * 100))
    running.wait_for(client.Delta)
    os.kill(house.pid("m"), signal.SIGKILL)
    told = house.records.wait(lambda records: any(deadly(record) for record in records))
    assert "xyzzy" not in repr(told)
    assert "plugh" not in repr(told)


def deadly(record: journal.Record) -> bool:
    return isinstance(record, journal.Transition) and record.event == "worker_exited"
