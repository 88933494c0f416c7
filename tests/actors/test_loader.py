"""The loader: one load at a time, memory, eviction."""

from typing import Any

from lmx.actors.messages import caller, client, loader, model
from lmx.machines.types import RefusalKind
from tests.support.house import GB, OUTCOMES, ask, fake
from tests.support.inbox import Inbox

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
    house = start(fake("a"), fake("b"), fake("c"), gauge=Small(), need=4 * GB)
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
    assert "8.00 GB" in outcome.refusal.message
    assert "9.00 GB" in outcome.refusal.message
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
