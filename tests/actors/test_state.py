"""The one writer of what lasts."""

import errno
import threading
from collections.abc import Iterator

import pytest

from lmx.actors.base import Address
from lmx.actors.messages import journal, state, supervisor
from lmx.actors.state import StateActor
from lmx.machines.canary import Golden
from lmx.machines.lasting import GOLDENS, STARTS, Quarantine, RuntimeState
from lmx.machines.state_file import DELAYS
from tests.support.hands import Hands
from tests.support.inbox import Inbox

WHY = Quarantine("it lied", 5.0, "files")


class Shelf:
    """The `Store` port in memory; while `error` is set nothing can be written."""

    def __init__(self) -> None:
        self.saved: list[RuntimeState] = []
        self.tries = 0
        self.error = 0
        self.changed = threading.Condition()

    def save(self, state: RuntimeState) -> None:
        with self.changed:
            self.tries += 1
            self.changed.notify_all()
            if self.error:
                raise OSError(self.error, "the disk is ill")
            self.saved.append(state)

    def wait(self, *, saved: int = 0, tries: int = 0) -> RuntimeState | None:
        with self.changed:
            enough = self.changed.wait_for(lambda: len(self.saved) >= saved and self.tries >= tries, 10.0)
            assert enough, (self.saved, self.tries)
            return self.saved[-1] if self.saved else None


class Desk:
    """A state actor with everything around it."""

    def __init__(self, remembered: RuntimeState, recovered: str = "") -> None:
        self.shelf, self.hands = Shelf(), Hands(start=1000.0)
        self.journal: Inbox[journal.Message] = Inbox()
        self.crashes: Inbox[supervisor.Message] = Inbox()
        clock = self.hands
        self.actor: Address[state.Message] = Address(
            StateActor.start(self.shelf, remembered, self.journal, self.crashes, self.hands, clock, recovered)
        )

    def tell(self, *messages: state.Message) -> None:
        for message in messages:
            self.actor.tell(message)

    def noted(self, **facts: journal.Fact) -> None:
        """Wait until the actor has noted this."""
        self.journal.wait(lambda told: journal.Noted("state", facts) in told)

    def moved(self, target: str) -> None:
        self.journal.wait(lambda told: any(isinstance(m, journal.Transition) and m.target == target for m in told))

    def close(self) -> None:
        assert self.actor.stop(5.0)
        assert self.crashes.messages == []


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk(RuntimeState(generation=7, starts=(900.0,)))
    yield made
    made.close()


def test_the_first_word_is_written_at_once_and_the_next_ones_together(desk: Desk) -> None:
    """A start outlasts a crash that follows at once; a burst is one more write, a tenth of a second later."""
    desk.tell(state.Started(1000.0))
    first = desk.shelf.wait(saved=1)
    assert first is not None
    assert first.starts == (900.0, 1000.0)
    assert first.generation == 8
    desk.tell(*(state.ModelLoaded(f"m{i}") for i in range(50)))
    desk.hands.pass_time(0.1, timers=1)
    second = desk.shelf.wait(saved=2)
    assert second is not None
    assert second.loaded == tuple(f"m{i}" for i in range(50))
    assert second.generation == 9
    assert desk.shelf.tries == 2


def test_a_clean_stop_is_written_at_once(desk: Desk) -> None:
    """Nothing is to be restored after it, no start counts, and quarantines and golden answers stay."""
    desk.tell(state.Started(1000.0), state.ModelLoaded("a"), state.Quarantined("b", WHY), state.StoppedCleanly())
    desk.shelf.wait(saved=2)
    desk.close()
    last = desk.shelf.saved[-1]
    assert (last.starts, last.loaded, last.latest) == ((), (), "")
    assert last.stopped == 1000.0
    assert last.quarantine == {"b": WHY}


def test_what_was_told_last_is_written_at_the_end(desk: Desk) -> None:
    """The actor's end does not wait for a pause to be over."""
    desk.tell(state.Started(1000.0), state.ModelLoading("a"))
    desk.close()
    assert desk.shelf.saved[-1].latest == "a"


def test_what_changes_nothing_is_not_written(desk: Desk) -> None:
    """Whoever tells the same thing twice does not wear out a disk."""
    desk.tell(state.ModelUnloaded("a"), state.Released("b"))
    desk.close()
    assert desk.shelf.tries == 0


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
def test_a_disk_that_fails_is_tried_again_and_nothing_is_forgotten(desk: Desk, error: int) -> None:
    """It shows that it fails and why, waits longer each time, writes all of it when it can, and shows that too."""
    desk.shelf.error = error
    desk.tell(state.Started(1000.0))
    desk.moved("failing")
    desk.journal.wait(lambda told: any(isinstance(m, journal.Noted) and m.facts.get("state_error") for m in told))
    desk.tell(state.ModelLoaded("a"), state.Quarantined("b", WHY))
    for tries, delay in enumerate(DELAYS, 2):
        desk.hands.pass_time(delay, timers=1)
        desk.shelf.wait(tries=tries)
    assert desk.shelf.tries == len(DELAYS) + 1  # the messages meanwhile were no tries of their own
    desk.shelf.error = 0
    desk.hands.pass_time(DELAYS[-1], timers=1)
    desk.noted(state_error=None)
    desk.moved("keeping")
    last = desk.shelf.saved[-1]
    assert (last.loaded, last.quarantine, last.generation) == (("a",), {"b": WHY}, 8)


def test_what_was_damaged_is_shown() -> None:
    """Whoever reads the board sees that lmx began without what it remembered."""
    desk = Desk(RuntimeState(), "runtime-state.json is damaged")
    desk.noted(state_recovered="runtime-state.json is damaged")
    desk.close()


def test_models_are_remembered_in_the_order_of_their_loads(desk: Desk) -> None:
    """One that comes back after its worker's death keeps its place; one that was unloaded goes to the end."""
    for model in ("a", "b", "c"):
        desk.tell(state.ModelLoading(model), state.ModelLoaded(model))
    desk.tell(state.ModelLoading("b"), state.ModelLoaded("b"), state.ModelUnloaded("a"), state.ModelLoaded("a"))
    desk.close()
    assert desk.shelf.saved[-1].loaded == ("b", "c", "a")


def test_the_suspect_is_who_began_to_load_last(desk: Desk) -> None:
    """Ready or not; when it was unloaded, the one before it."""
    desk.tell(state.ModelLoaded("a"), state.ModelLoading("b"), state.ModelLoaded("b"), state.ModelLoading("c"))
    desk.tell(state.ModelUnloaded("c"))
    desk.close()
    assert desk.shelf.saved[-1].latest == "b"


def test_it_is_bounded(desk: Desk) -> None:
    """The newest golden answers and starts are kept; a quarantine that is released is gone."""
    golden = Golden(answers=((1,),))
    desk.tell(*(state.Sang(f"k{i}", golden) for i in range(GOLDENS)), state.Sang("k0", golden))
    desk.tell(state.Sang("new", golden), *(state.Started(1000.0 + i) for i in range(STARTS * 2)))
    desk.tell(state.Quarantined("b", WHY), state.Released("b"))
    desk.close()
    last = desk.shelf.saved[-1]
    assert len(last.goldens) == GOLDENS
    assert list(last.goldens)[-2:] == ["k0", "new"]
    assert "k1" not in last.goldens
    assert len(last.starts) == STARTS
    assert last.quarantine == {}
