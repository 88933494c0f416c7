"""Starts without clean stops."""

import pykka
import pytest

from lmx.actors.base import Address
from lmx.actors.crash_loop import CrashLoopActor
from lmx.actors.messages import crash_loop, loader, server
from tests.support.house import Actors
from tests.support.inbox import Inbox


class Memory:
    """A start history that a process would keep in a file."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    def read(self) -> list[float]:
        return self.starts

    def write(self, starts: list[float]) -> None:
        self.starts = starts


@pytest.fixture
def house() -> Actors:
    return Actors()


def begin(house: Actors, history: Memory) -> tuple[str, "Address[crash_loop.Message]", Inbox[loader.Message]]:
    """Start a daemon's crash-loop actor; what it says of safe mode."""
    told: Inbox[loader.Message] = Inbox()
    ref: pykka.ActorRef[CrashLoopActor] = CrashLoopActor.start(house.house, history, told)
    address: Address[crash_loop.Message] = Address(ref)
    answer: Inbox[server.Message] = Inbox()
    address.tell(crash_loop.Started(answer))
    recovered = answer.wait_for(server.Recovered)
    assert isinstance(recovered, server.Recovered)
    return recovered.safe_mode, address, told


def test_the_third_start_within_a_minute_is_safe_mode(house: Actors) -> None:
    """Two unclean starts are borne, the third forbids loads, and an admin's release allows them again."""
    history = Memory()
    actors = []
    for _ in range(2):
        reason, actor, _ = begin(house, history)
        actors.append(actor)
        assert reason == ""
    reason, actor, told = begin(house, history)
    assert "3 times" in reason
    assert told.wait_for(loader.SetSafeMode) == loader.SetSafeMode(reason)
    answer: Inbox[crash_loop.Released] = Inbox()
    actor.tell(crash_loop.Release(answer))
    assert answer.wait_for(crash_loop.Released) == crash_loop.Released("watching")
    told.wait(lambda messages: messages[-1] == loader.SetSafeMode(""))
    for each in (*actors, actor):
        assert each.stop(5.0)
    house.close()


def test_a_clean_stop_wipes_the_slate(house: Actors) -> None:
    """Starts that ended well never add up to a crash loop."""
    history = Memory()
    for _ in range(4):
        reason, actor, _ = begin(house, history)
        assert reason == ""
        actor.tell(crash_loop.StoppedCleanly())
        assert actor.stop(5.0)
    house.close()
