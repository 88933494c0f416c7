"""The loader: one load at a time, memory, eviction."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from lmx.actors.base import Address
from lmx.actors.loader import LoaderActor
from lmx.actors.messages import caller, client, loader, model
from lmx.actors.ports import MemoryGauge
from lmx.machines.types import RefusalKind
from tests.support.house import GB, OUTCOMES, Actors, ask, fake
from tests.support.inbox import Inbox
from tests.support.scales import Weighs

Start = Any


class Small:
    """A machine of 10 GB: 9 may be used."""

    def free(self) -> int:
        return 10 * GB

    def total(self) -> int:
        return 10 * GB


def test_models_load_one_after_the_other(start: Start) -> None:
    """A second load waits until the first model has passed its canary."""
    house = start(fake("a", "load=0.3"), fake("b"))
    first, second = house.submit("a", ask("x"))[1], house.submit("b", ask("x"))[1]
    first.wait_for(client.Finished)
    second.wait_for(client.Finished)
    moves = [(moved.actor, moved.target) for moved in house.board().transitions]
    first_in, then = sorted(("model:a", "model:b"), key=lambda actor: moves.index((actor, "loading")))
    assert moves.index((first_in, "ready")) < moves.index((then, "loading"))


def test_the_longest_unused_idle_model_makes_room(start: Start) -> None:
    """When the budget is full, the model that was used last stays."""
    house = start(fake("a"), fake("b"), fake("c"), gauge=Small(), need=6 * GB)
    house.load("a")
    house.load("b")
    house.submit("a", ask("used again"))[1].wait_for(client.Finished)
    assert house.load("c") == caller.Settled("c", "ready")
    assert [house.view(f"model:{name}").state for name in "abc"] == ["ready", "unloaded", "ready"]


def test_a_busy_model_is_never_evicted(start: Start) -> None:
    """What cannot fit beside busy models is refused with the figures, and nobody is harmed."""
    house = start(fake("a", "step=0.01"), fake("b"), gauge=Small(), need=8 * GB)
    _, stream = house.submit("a", ask("x" * 100))
    stream.wait_for(client.Delta)
    _, refused = house.submit("b", ask("x"))
    outcome = refused.wait_for(OUTCOMES)
    assert isinstance(outcome, client.Refused)
    assert outcome.refusal.kind is RefusalKind.INSUFFICIENT_MEMORY
    assert outcome.refusal.message == (
        "It needs 8.0 GB; 5.0 GB could be free of the 9.0 GB that lmx may use; held: a 4.0 GB (busy)."
    )
    assert isinstance(stream.wait_for(OUTCOMES), client.Finished)


def test_a_load_that_fails_makes_way(start: Start) -> None:
    """A model that cannot be loaded, or dies, keeps neither the turn nor the memory."""
    house = start(fake("bad", "fail_load=broken"), fake("good"), gauge=Small(), need=8 * GB)
    assert isinstance(house.load("bad"), caller.Refused)
    assert house.load("good") == caller.Settled("good", "ready")


def test_in_safe_mode_only_an_admin_loads(start: Start) -> None:
    """A request is refused with the reason; an admin's load goes through, and then requests do."""
    house = start(fake("m"))
    house.loader.tell(loader.SetSafeMode("It started too often."))
    refused = house.submit("m", ask("x"))[1].wait_for(OUTCOMES)
    assert isinstance(refused, client.Refused)
    assert (refused.refusal.kind, refused.refusal.message) == (RefusalKind.SAFE_MODE, "It started too often.")
    assert house.load("m") == caller.Settled("m", "ready")
    assert isinstance(house.submit("m", ask("x"))[1].wait_for(OUTCOMES), client.Finished)


def test_a_wish_that_was_withdrawn_twice_harms_nobody(start: Start) -> None:
    """A turn that is given back ends once; the next in the queue gets it, and the memory is free again."""
    house = start(gauge=Small())
    first: Inbox[model.Message] = Inbox()
    second: Inbox[model.Message] = Inbox()
    house.loader.tell(loader.Acquire("a", 1, 8 * GB, False, first))
    assert first.wait_for(model.Granted) == model.Granted(1)
    house.loader.tell(loader.Acquire("a", 2, 8 * GB, False, first))
    for _ in range(2):
        house.loader.tell(loader.Withdraw("a", 1))
    first.wait(lambda told: told == [model.Granted(1), model.Granted(2)])
    house.loader.tell(loader.Acquire("b", 1, 8 * GB, False, second))
    house.loader.tell(loader.Withdraw("a", 2))
    assert second.wait_for(model.Granted) == model.Granted(1)


def test_a_pinned_model_stays(start: Start) -> None:
    """Idle or not, nobody's wish unloads it; the refusal says why."""
    house = start(fake("a", pinned=True), fake("b"), gauge=Small(), need=8 * GB)
    house.load("a")
    reply = house.load("b")
    assert isinstance(reply, caller.Refused)
    assert reply.refusal.message.endswith("held: a 4.0 GB (pinned).")
    assert house.view("model:a").state == "ready"


def test_nobody_is_evicted_in_vain(start: Start) -> None:
    """When an idle model's memory would not be enough beside a busy one, it keeps it."""
    house = start(fake("a"), fake("b", "step=0.01"), fake("c"), gauge=Small(), need=6 * GB)
    house.load("a")
    _, stream = house.submit("b", ask("x" * 200))
    stream.wait_for(client.Delta)
    house.loader.tell(loader.Measured("b", 5 * GB))
    assert isinstance(house.load("c"), caller.Refused)
    assert house.path("model:a")[-1] == "ready"
    assert isinstance(stream.wait_for(OUTCOMES), client.Finished)


def test_what_is_loaded_from_the_start_takes_nobody_s_place(start: Start) -> None:
    """First come, first served; the later one is refused and says what is next, and a request then loads it."""
    house = start(fake("a"), fake("b"), gauge=Small(), need=8 * GB)
    told: Inbox[caller.Reply] = Inbox()
    house.models["a"].tell(model.Load(reply_to=told))
    told.wait_for(caller.Settled)
    house.models["b"].tell(model.Load(reply_to=told))
    refused = told.wait_for(caller.Refused)
    assert isinstance(refused, caller.Refused)
    assert "held: a 4.0 GB (idle)" in refused.refusal.message
    assert "loaded by its first request" in refused.refusal.message
    assert isinstance(house.submit("b", ask("x"))[1].wait_for(OUTCOMES), client.Finished)
    assert house.view("model:a").state == "unloaded"


def test_under_pressure_nobody_loads(start: Start) -> None:
    """Not even an admin, until it is over; the refusal says when to try again."""
    house = start(fake("m"))
    house.loader.tell(loader.SetPressure("Of the machine's memory 91% is used."))
    refused = house.load("m")
    assert isinstance(refused, caller.Refused)
    assert refused.refusal.kind is RefusalKind.MEMORY_PRESSURE
    assert (refused.refusal.message, refused.refusal.retry_after) == ("Of the machine's memory 91% is used.", 10.0)
    house.loader.tell(loader.SetPressure(""))
    assert house.load("m") == caller.Settled("m", "ready")


def test_files_that_cannot_be_weighed_refuse_the_load(start: Start) -> None:
    """A sentence, at once, and nothing else happens: the loader is never asked, and a later try is weighed anew."""
    scales = Weighs(0, problem="m.gguf is missing: download the model again, or correct its path.")
    house = start(fake("m"), scales=scales)
    refused = house.submit("m", ask("x"))[1].wait_for(OUTCOMES)
    assert isinstance(refused, client.Refused)
    assert (refused.refusal.kind, refused.refusal.message) == (RefusalKind.MODEL_LOAD_FAILED, scales.problem)
    assert house.view("loader").state == "idle"
    assert house.path("model:m") == ["queued", "unloaded"]
    scales.problem, scales.nbytes = "", GB
    assert house.load("m") == caller.Settled("m", "ready")


class Room:
    """A machine of 10 GB whose free memory is what a test says."""

    def __init__(self, free: int) -> None:
        self.now = free

    def free(self) -> int:
        return self.now

    def total(self) -> int:
        return 10 * GB


class Two:
    """A loader that knows two models, which are nothing but inboxes, on a clock that stands still."""

    def __init__(self, house: Actors, gauge: MemoryGauge) -> None:
        self.clock = Standing()
        self.told: dict[str, Inbox[model.Message]] = {"a": Inbox(), "b": Inbox()}
        self.ref: Address[loader.Message] = Address(
            LoaderActor.start(replace(house.house, clock=self.clock), gauge, 0.9, self.told)
        )

    def ask(self, name: str, ticket: int, need: int, **fields: Any) -> None:
        self.ref.tell(loader.Acquire(name, ticket, need, False, self.told[name], **fields))

    def answer(self, name: str, ticket: int) -> model.Granted | model.Refused:
        def is_it(message: model.Message) -> bool:
            return isinstance(message, model.Granted | model.Refused) and message.ticket == ticket

        messages = self.told[name].wait(lambda told: any(map(is_it, told)))
        answer = next(filter(is_it, messages))
        assert isinstance(answer, model.Granted | model.Refused)
        return answer

    def load(self, name: str, need: int, takes: int) -> None:
        self.ask(name, 1, need)
        assert self.answer(name, 1) == model.Granted(1)
        self.ref.tell(loader.Loaded(name))
        self.ref.tell(loader.Measured(name, takes))


class Standing:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


@pytest.fixture
def two(start: Start) -> Iterator[Callable[[MemoryGauge], Two]]:
    made: list[Two] = []

    def make(gauge: MemoryGauge) -> Two:
        made.append(Two(start(), gauge))
        return made[-1]

    yield make
    for one in made:
        assert one.ref.stop(10.0)


def test_memory_that_was_given_back_is_waited_for(two: Callable[[MemoryGauge], Two]) -> None:
    """A process is gone before its memory counts as free: who was evicted for nothing would have gone in vain."""
    gauge = Room(4 * GB)
    pair = two(gauge)
    gauge.now = 9 * GB
    pair.load("a", 6 * GB, takes=6 * GB)
    gauge.now = 3 * GB
    pair.ask("b", 1, 6 * GB)
    pair.told["a"].wait_for(model.Evict)
    pair.ref.tell(loader.Released("a"))
    assert pair.told["b"].messages == []
    gauge.now = 9 * GB
    assert pair.answer("b", 1) == model.Granted(1)


def test_memory_that_does_not_come_back_is_waited_for_two_seconds(two: Callable[[MemoryGauge], Two]) -> None:
    """Then the load is refused with the figures: another program has taken it."""
    gauge = Room(9 * GB)
    pair = two(gauge)
    pair.load("a", 6 * GB, takes=6 * GB)
    gauge.now = 1 * GB
    pair.ref.tell(loader.Released("a"))
    pair.ask("b", 1, 6 * GB)
    refused = pair.answer("b", 1)
    assert isinstance(refused, model.Refused)
    assert refused.refusal.message == "It needs 6.0 GB; 1.0 GB could be free of the 9.0 GB that lmx may use."


def test_the_next_load_is_estimated_by_the_last_one(two: Callable[[MemoryGauge], Two]) -> None:
    """What took half as much again as estimated is expected to do so again."""
    pair = two(Small())
    pair.load("a", 4 * GB, takes=6 * GB)
    pair.ref.tell(loader.Released("a"))
    pair.load("b", 4 * GB, takes=4 * GB)
    pair.ref.tell(loader.BecameBusy("b"))
    pair.ask("a", 2, 4 * GB)
    refused = pair.answer("a", 2)
    assert isinstance(refused, model.Refused)
    assert refused.refusal.message.startswith("It needs 6.0 GB; 5.0 GB could be free")


def test_what_a_trimmed_worker_took_before_counts_no_more(two: Callable[[MemoryGauge], Two]) -> None:
    """Its peak begins anew: others may have what it let go of."""
    pair = two(Small())
    pair.load("a", 4 * GB, takes=6 * GB)
    pair.ref.tell(loader.BecameBusy("a"))
    pair.ref.tell(loader.Measured("a", 3 * GB))
    pair.ask("b", 1, 5 * GB)
    assert isinstance(pair.answer("b", 1), model.Refused)
    pair.ref.tell(loader.Measured("a", 3 * GB, trimmed=True))
    pair.ask("b", 2, 5 * GB)
    assert pair.answer("b", 2) == model.Granted(2)


def test_a_guard_that_refuses_for_a_minute_starts_somebody_afresh(two: Callable[[MemoryGauge], Two]) -> None:
    """A worker that grew far beyond what was reserved is replaced, once, instead of refusing loads for hours."""
    pair = two(Small())
    pair.load("a", 4 * GB, takes=7 * GB)
    pair.ref.tell(loader.BecameBusy("a"))
    for ticket in range(1, 8):
        pair.ask("b", ticket, 6 * GB)
        assert isinstance(pair.answer("b", ticket), model.Refused)
        pair.clock.now += 15.0
    pair.told["a"].wait_for(model.Recycle)
    recycled = [message for message in pair.told["a"].messages if isinstance(message, model.Recycle)]
    assert recycled == [model.Recycle("Loads were refused for 60 s while it holds 7.0 GB.")]


def test_a_request_that_memory_cannot_hold_is_refused(start: Start) -> None:
    """Where the KV cache is taken token by token: with its figures, before it runs; a shorter one is served."""
    house = start(fake("m"), scales=Weighs(GB, kv_per_token=1_000_000, left=GB // 2))
    house.load("m")
    refused = house.submit("m", ask("x" * 4000, max_tokens=1000))[1].wait_for(OUTCOMES)
    assert isinstance(refused, client.Refused)
    assert refused.refusal.kind is RefusalKind.MEMORY_PRESSURE
    assert refused.refusal.message == (
        "There is no memory for this request: about 2000 tokens take 2.0 GB and 0.5 GB are free."
    )
    assert isinstance(house.submit("m", ask("x" * 40, max_tokens=10))[1].wait_for(OUTCOMES), client.Finished)
