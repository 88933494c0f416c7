"""Memory pressure: who is told what, once; and what the daemon does about it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from lmx.actors.base import Address
from lmx.actors.memory import SECONDS, MemoryActor
from lmx.actors.messages import admission, caller, client, loader, memory, model
from lmx.actors.messages.ref import Ref
from lmx.machines.pressure import FALLING, RISING
from lmx.machines.types import RefusalKind
from tests.support.house import GB, OUTCOMES, Actors, ask, fake
from tests.support.inbox import Inbox

Start = Any


class Dial:
    """A machine of 100 GB of which a test says how much is used."""

    def __init__(self) -> None:
        self.used = 0

    def free(self) -> int:
        return (100 - self.used) * GB

    def total(self) -> int:
        return 100 * GB


class Pauses:
    """Timers that never fire: the test samples by itself."""

    def __init__(self) -> None:
        self.asked: Inbox[tuple[float, Any]] = Inbox()

    def after(self, seconds: float, ref: Ref[Any], message: Any) -> None:
        self.asked.tell((seconds, message))


class Ladder:
    def __init__(self, house: Actors, models: dict[str, Any], load: Ref[Any], admit: Ref[Any]) -> None:
        self.house = house
        self.dial = Dial()
        self.timers = Pauses()
        self.doors: Inbox[bool] = Inbox()
        given = (replace(house.house, timers=self.timers), self.dial, models, load, admit, self.doors)
        self.ref: Address[memory.Message] = Address(MemoryActor.start(*given))
        self._seen = 1
        self._wait()

    def use(self, percent: int) -> None:
        """Let as many samples see it as it takes."""
        self.dial.used = percent
        for _ in range(max(RISING, FALLING)):
            self.ref.tell(memory.Sample(1))
            self._seen += 1
        self._wait()

    def _wait(self) -> None:
        self.timers.asked.wait(lambda asked: len(asked) == self._seen)

    def rung(self, name: str) -> None:
        self.house.await_state("memory", name)


Climb = Callable[..., Ladder]


@pytest.fixture
def climb() -> Iterator[Climb]:
    ladders: list[Ladder] = []

    def make(*given: Any) -> Ladder:
        ladders.append(Ladder(*given))
        return ladders[-1]

    yield make
    for ladder in ladders:
        assert ladder.ref.stop(10.0)


def test_every_measure_is_taken_once_and_taken_back_once(start: Start, climb: Climb) -> None:
    """0 → 100 → 0 %, a point at a time: each rung is told to whom it concerns, and noted."""
    models: dict[str, Inbox[model.Message]] = {"a": Inbox(), "b": Inbox()}
    load, admit = Inbox[loader.Message](), Inbox[admission.Message]()
    ladder = climb(start(), models, load, admit)
    for percent in (*range(101), *range(100, -1, -1)):
        ladder.use(percent)
    steps = ["trimming", "refusing_loads", "shedding", "closing", "shedding", "refusing_loads", "trimming", "nominal"]
    moved = ladder.house.until(lambda: ladder.house.path("memory"), lambda path: len(path) == len(steps))
    assert moved == steps
    assert [inbox.messages for inbox in models.values()] == [[model.TrimMemory()]] * 2
    reasons = [message.reason for message in load.messages if isinstance(message, loader.SetPressure)]
    assert [bool(reason) for reason in reasons] == [False, True, False]
    assert reasons[1] == "Of the machine's memory 90% is used; from 90% on nothing is loaded."
    assert admit.messages == [admission.SetPressure(on) for on in (False, True, False)]
    assert ladder.doors.messages == [False, True, False]


def test_it_looks_every_second_and_shows_what_it_sees(start: Start, climb: Climb) -> None:
    """In the journal for people, in Prometheus for graphs."""
    ladder = climb(start(), {}, Inbox(), Inbox())
    ladder.use(93)
    ladder.rung("refusing_loads")
    house = ladder.house
    facts = house.until(lambda: house.view("memory").facts, lambda facts: facts.get("rung") == "refusing_loads")
    assert facts["used_share"] == 0.93
    assert REGISTRY.get_sample_value("lmx_memory_used_ratio") == pytest.approx(0.93)
    assert REGISTRY.get_sample_value("lmx_memory_rung") == 2
    assert set(ladder.timers.asked.messages) == {(SECONDS, memory.Sample(1))}


def test_an_old_timer_s_sample_is_ignored(start: Start, climb: Climb) -> None:
    """One clock of samples at a time, also after a crash."""
    ladder = climb(start(), {}, Inbox(), Inbox())
    ladder.dial.used = 100
    for _ in range(10):
        ladder.ref.tell(memory.Sample(0))
    ladder.ref.tell(memory.Sample(1))
    ladder.timers.asked.wait(lambda asked: len(asked) == 2)
    assert ladder.house.path("memory") == []


def test_trimming_empties_the_prefix_cache(start: Start, climb: Climb) -> None:
    """The worker forgets what it only kept for speed; it goes on answering, and computes the prompt again."""
    house = start(fake("m"))
    ladder = climb(house, house.models, house.loader, house.admission)
    house.submit("m", ask("a prompt of more than thirty-two characters"))[1].wait_for(client.Finished)
    house.until(lambda: house.view("model:m").facts.get("prefix_cache_entries"), bool)
    ladder.use(86)
    house.until(lambda: house.view("model:m").facts.get("prefix_cache_entries"), lambda entries: entries == 0)
    again = house.submit("m", ask("a prompt of more than thirty-two characters"))[1].wait_for(client.Finished)
    assert isinstance(again, client.Finished)
    assert again.usage.cached_tokens == 0


def test_loads_then_requests_are_refused_and_taken_again(start: Start, climb: Climb) -> None:
    """From 90 % on nothing is loaded, from 95 % on nothing new is generated; what runs goes on to its end."""
    house = start(fake("m", "step=0.01"), fake("n"))
    ladder = climb(house, house.models, house.loader, house.admission)
    _, stream = house.submit("m", ask("x" * 100))
    stream.wait_for(client.Delta)
    ladder.use(91)
    ladder.rung("refusing_loads")
    refused = house.load("n")
    assert isinstance(refused, caller.Refused)
    assert (refused.refusal.kind, refused.refusal.retry_after) == (RefusalKind.MEMORY_PRESSURE, 10.0)
    ladder.use(96)
    ladder.rung("shedding")
    shed = house.submit("m", ask("y"))[1].wait_for(OUTCOMES)
    assert isinstance(shed, client.Refused)
    assert (shed.refusal.kind, shed.refusal.retry_after) == (RefusalKind.MEMORY_PRESSURE, 10.0)
    assert isinstance(stream.wait_for(OUTCOMES), client.Finished)
    ladder.use(50)
    ladder.rung("nominal")
    assert isinstance(house.submit("m", ask("y"))[1].wait_for(OUTCOMES), client.Finished)
    assert house.load("n") == caller.Settled("n", "ready")
