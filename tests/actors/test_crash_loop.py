"""Starts without clean stops, and what is loaded after them."""

from collections.abc import Iterator
from typing import Any

import pykka
import pytest

from lmx.actors.base import Address, House
from lmx.actors.crash_loop import CrashLoopActor
from lmx.actors.messages import admission, caller, crash_loop, journal, loader, model, server, state, supervisor
from lmx.actors.messages.ref import Ref
from lmx.actors.preloads import PATIENCE
from lmx.actors.server import ServerActor
from lmx.machines.lasting import RuntimeState
from lmx.machines.types import Refusal, RefusalKind
from tests.support.hands import Hands
from tests.support.house import Actors
from tests.support.inbox import Inbox


@pytest.fixture
def house() -> Iterator[Actors]:
    house = Actors()
    yield house
    house.close()
    assert house.escalations == []


def begin(house: Actors, *ago: float) -> tuple[str, "Address[crash_loop.Message]", Inbox[loader.Message]]:
    """Start a daemon's crash-loop actor, other starts being so many seconds ago; what it says of safe mode."""
    told: Inbox[loader.Message] = Inbox()
    starts = [house.clock.time() - seconds for seconds in ago]
    ref: pykka.ActorRef[CrashLoopActor] = CrashLoopActor.start(house.house, starts, told)
    address: Address[crash_loop.Message] = Address(ref)
    answer: Inbox[server.Message] = Inbox()
    address.tell(crash_loop.Started(answer))
    recovered = answer.wait_for(server.Recovered)
    assert isinstance(recovered, server.Recovered)
    return recovered.safe_mode, address, told


def test_the_third_start_within_a_minute_is_safe_mode(house: Actors) -> None:
    """Two unclean starts are borne, the third forbids loads, and an admin's release allows them again."""
    reason, actor, told = begin(house, 50.0, 1.0)
    assert "3 times" in reason
    assert told.wait_for(loader.SetSafeMode) == loader.SetSafeMode(reason)
    answer: Inbox[crash_loop.Released] = Inbox()
    actor.tell(crash_loop.Release(answer))
    assert answer.wait_for(crash_loop.Released) == crash_loop.Released("watching")
    told.wait(lambda messages: messages[-1] == loader.SetSafeMode(""))
    assert actor.stop(5.0)


def test_a_crash_ends_safe_mode(house: Actors) -> None:
    """What has forgotten that it forbids loads would never allow them again."""
    _, actor, told = begin(house, 50.0, 1.0)
    told.wait_for(loader.SetSafeMode)
    nonsense: Any = "not a message"
    actor.tell(nonsense)
    told.wait(lambda messages: messages[-1] == loader.SetSafeMode(""))
    assert actor.stop(5.0)


def test_a_start_that_crashes_is_answered(house: Actors) -> None:
    """The server waits for that answer, however long."""
    told: Inbox[loader.Message] = Inbox()
    broken: Any = ["yesterday"]
    ref: pykka.ActorRef[CrashLoopActor] = CrashLoopActor.start(house.house, broken, told)
    address: Address[crash_loop.Message] = Address(ref)
    answer: Inbox[server.Message] = Inbox()
    address.tell(crash_loop.Started(answer))
    assert answer.wait_for(server.Recovered) == server.Recovered("")
    assert address.stop(5.0)


@pytest.mark.parametrize("ago", [(), (1.0,), (900.0, 100.0, 61.0, 1.0)])
def test_fewer_starts_and_older_ones_are_no_loop(house: Actors, ago: tuple[float, ...]) -> None:
    """Only a minute counts."""
    reason, actor, told = begin(house, *ago)
    assert reason == ""
    assert actor.stop(5.0)
    assert told.messages == []


def test_starts_and_clean_stops_are_told_to_what_lasts(house: Actors) -> None:
    """Each start when it happens, each clean stop before the daemon ends."""
    _, actor, _ = begin(house)
    actor.tell(crash_loop.StoppedCleanly())
    assert actor.stop(5.0)
    first, last = house.state.messages
    assert isinstance(first, state.Started)
    assert abs(first.at - house.clock.time()) < 5.0
    assert last == state.StoppedCleanly()


class Bridge:
    """A server actor among receivers that only listen."""

    def __init__(self, *models: str, preload: tuple[str, ...], past: RuntimeState, panic: float | None = None) -> None:
        self.hands = Hands(start=1000.0)
        self.journal: Inbox[journal.Message] = Inbox()
        self.models: dict[str, Inbox[model.Message]] = {name: Inbox() for name in models}
        self.exits: list[int] = []
        quiet: Inbox[state.Message] = Inbox()
        self.crashes: Inbox[supervisor.Message] = Inbox()
        house = House(self.journal, quiet, self.crashes, self.hands, self.hands, strict=True)
        self.admission: Inbox[admission.Message] = Inbox()
        self.crash_loop: Inbox[crash_loop.Message] = Inbox()
        refs: dict[str, Ref[model.Message]] = dict(self.models)
        others = (self.admission, self.crash_loop, refs)
        self.actor: Address[server.Message] = Address(
            ServerActor.start(house, *others, preload, 30.0, self.exits.append, past, panic)
        )

    def recover(self, safe_mode: str = "") -> None:
        self.actor.tell(server.Start())
        self.crash_loop.wait_for(crash_loop.Started)
        self.actor.tell(server.Recovered(safe_mode))
        self.until("serving")

    def until(self, state: str) -> None:
        self.journal.wait(lambda told: any(isinstance(m, journal.Transition) and m.target == state for m in told))

    def loads(self, name: str) -> model.Load:
        """Wait until the model is told to load."""
        message = self.models[name].wait_for(model.Load)
        assert isinstance(message, model.Load)
        assert not message.by_admin
        return message

    def ready(self, name: str) -> None:
        reply_to = self.loads(name).reply_to
        assert reply_to is not None
        reply_to.tell(caller.Settled(name, "ready"))

    def idle(self) -> set[str]:
        """Who was not told to load so far; all that was told to the server has been heard."""
        assert self.actor.stop(5.0)
        return {name for name, inbox in self.models.items() if not inbox.messages}

    def held_back(self, name: str) -> str:
        told = [m for m in self.journal.messages if isinstance(m, journal.Noted) and m.actor == f"model:{name}"]
        return str(told[-1].facts["held_back"]) if told else ""


UNCLEAN = RuntimeState(starts=(900.0,), loaded=("d", "b", "a", "gone"), latest="a")


def test_what_was_loaded_is_restored_one_by_one_in_its_order() -> None:
    """First what the config wants, then the others as they were; the next one begins when the last one is ready."""
    bridge = Bridge("a", "b", "c", "d", preload=("c", "a"), past=UNCLEAN)
    bridge.recover()
    for name, rest in (("c", "abd"), ("a", "bd"), ("d", "b")):
        bridge.loads(name)
        assert not any(bridge.models[other].messages for other in rest)
        bridge.ready(name)
    bridge.ready("b")
    assert bridge.idle() == set()


def test_one_that_cannot_load_does_not_keep_the_others() -> None:
    """Neither a refusal, nor one that dies again and again: two minutes are all that the others wait."""
    bridge = Bridge("a", "b", "c", preload=("a", "b", "c"), past=RuntimeState())
    bridge.recover()
    reply_to = bridge.loads("a").reply_to
    assert reply_to is not None
    reply_to.tell(caller.Refused("a", Refusal(RefusalKind.MODEL_QUARANTINED, "no", None)))
    bridge.loads("b")
    bridge.hands.pass_time(PATIENCE - 1.0, timers=2)
    bridge.hands.pass_time(1.0)
    bridge.loads("c")
    bridge.ready("b")  # late
    assert bridge.idle() == set()


def test_nothing_loads_by_itself_in_safe_mode_and_everybody_sees_why() -> None:
    """Until safe mode ends: then what was held back is loaded."""
    bridge = Bridge("a", "b", preload=("b",), past=UNCLEAN)
    bridge.recover("It crashed too often.")
    bridge.journal.wait(lambda told: sum(isinstance(m, journal.Noted) for m in told) >= 2)
    assert bridge.held_back("a") == bridge.held_back("b") == "It crashed too often."
    assert not bridge.models["b"].messages
    bridge.actor.tell(server.Recovered(""))
    bridge.ready("b")
    bridge.ready("a")
    bridge.actor.tell(server.Recovered(""))
    assert bridge.idle() == set()
    assert len(bridge.models["b"].messages) == 1


@pytest.mark.parametrize(("panic", "suspected"), [(950.0, True), (850.0, False), (None, False)])
def test_the_suspect_of_a_kernel_panic_waits_for_a_wish(panic: float | None, suspected: bool) -> None:
    """The model that was loaded last when the machine went down: not by itself, whatever the config says."""
    bridge = Bridge("a", "b", "d", preload=("a",), past=UNCLEAN, panic=panic)
    bridge.recover()
    for name in ("d", "b") if suspected else ("a", "d", "b"):
        bridge.ready(name)
    assert bridge.idle() == ({"a"} if suspected else set())
    assert ("panicked" in bridge.held_back("a")) is suspected


def test_the_first_fatal_cause_is_the_exit_code() -> None:
    """A stop that comes after an escalation, or before it, does not make it a clean one."""
    for messages in (
        (server.Escalated("an actor"), server.Stop("SIGTERM"), server.Stop("SIGTERM")),
        (server.Stop("SIGTERM"), server.Escalated("an actor"), server.Stop("SIGTERM")),
    ):
        bridge = Bridge("a", preload=(), past=RuntimeState())
        bridge.recover()
        for message in messages:
            bridge.actor.tell(message)
        assert bridge.actor.stop(5.0)
        assert bridge.exits == [70]
        assert crash_loop.StoppedCleanly() not in bridge.crash_loop.messages


def test_a_stop_before_the_start_is_a_stop() -> None:
    """A signal may come before the listener is bound; the start that follows is ignored."""
    bridge = Bridge("a", preload=("a",), past=RuntimeState())
    bridge.actor.tell(server.Stop("SIGTERM"))
    bridge.actor.tell(server.Start())
    shut = bridge.models["a"].wait_for(model.Shut)
    assert isinstance(shut, model.Shut)
    shut.reply_to.tell(caller.Settled("a", "unloaded"))
    assert bridge.actor.stop(5.0)
    assert bridge.exits == [0]
