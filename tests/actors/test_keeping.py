"""Idle models go when their time is over, and workers that are no longer what they were are replaced."""

from dataclasses import replace
from typing import Any

import pytest

from lmx.actors.keeping import Keeping
from lmx.actors.messages import admission, client, model
from lmx.machines import frames
from lmx.machines.types import ModelSpec
from tests.support.by_hand import TimeByHand
from tests.support.house import OUTCOMES, Actors, ask, fake
from tests.support.inbox import Inbox

Start = Any
GB = 10**9


def submit(house: Actors, name: str, keep_alive: float | None) -> client.Event:
    """One request with its own wish, to its end."""
    sink: Inbox[client.Event] = Inbox()
    house.admission.tell(admission.Submit("k", name, "me", ask("x"), sink, keep_alive=keep_alive))
    outcome = sink.wait_for(OUTCOMES)
    house.admission.tell(admission.Release("k"))
    return outcome


def test_an_idle_model_is_unloaded_and_loaded_again(start: Start) -> None:
    """When nobody asked for so long; the next request brings it back."""
    house = start(fake("m", keep_alive_seconds=0.1))
    assert isinstance(submit(house, "m", None), client.Finished)
    gone = house.await_state("model:m", "unloaded")
    assert gone.reason or house.path("model:m")[-1] == "unloaded"
    assert gone.facts["pid"] is None
    assert isinstance(submit(house, "m", None), client.Finished)


def test_a_model_that_was_only_loaded_goes_too(start: Start) -> None:
    """Its time begins when it is ready."""
    house = start(fake("m", keep_alive_seconds=0.1))
    house.load("m")
    house.await_state("model:m", "unloaded")


def test_a_request_may_say_that_it_was_the_last_one(start: Start) -> None:
    """keep_alive 0: the memory is given back at once, whatever is configured."""
    house = start(fake("m"))
    assert isinstance(submit(house, "m", 0.0), client.Finished)
    house.await_state("model:m", "unloaded")


def keeping(house: Actors, **fields: Any) -> tuple[Keeping, TimeByHand, Inbox[model.Message]]:
    time, owner = TimeByHand(), Inbox[model.Message]()
    spec = ModelSpec(name="m", path="", backend="fake", **fields)
    return Keeping(spec, replace(house.house, timers=time, clock=time), owner), time, owner


def is_over(kept: Keeping, owner: Inbox[model.Message]) -> bool:
    """As its actor asks, of all that it is told."""
    told, owner.messages[:] = list(owner.messages), []
    numbers = [message.number for message in told if isinstance(message, model.KeptLongEnough)]
    return [kept.over(number) for number in numbers][-1:] == [True]


@pytest.mark.parametrize(
    ("fields", "keep_alive", "seconds"),
    [
        ({"keep_alive_seconds": 300.0}, None, [300.0]),
        ({"keep_alive_seconds": 300.0}, -1.0, []),
        ({"keep_alive_seconds": 300.0}, 5.0, [5.0]),
        ({"keep_alive_seconds": 300.0, "pinned": True}, 5.0, []),
        ({}, None, []),
    ],
)
def test_the_latest_request_s_wish_counts(
    start: Start, fields: dict[str, Any], keep_alive: float | None, seconds: list[float]
) -> None:
    """Before the setting; a pinned model has no time to be over."""
    kept, time, _ = keeping(start(), **fields)
    kept.used(1.0)
    kept.used(keep_alive)
    for _ in range(3):
        kept.idle()
    assert time.asked == seconds


def test_an_earlier_idleness_unloads_nobody(start: Start) -> None:
    """Who was used since begins anew; who was used and is busy has no time at all; another worker begins anew too."""
    kept, time, owner = keeping(start(), keep_alive_seconds=5.0)
    kept.idle()
    time.passes(4.0)
    kept.used(None)
    time.passes(4.0)
    assert not is_over(kept, owner)
    kept.idle()
    time.passes(4.0)
    assert not is_over(kept, owner)
    time.passes(1.0)
    assert is_over(kept, owner)
    kept.used(None)
    kept.idle()
    kept.forget()
    time.passes(9.0)
    assert not is_over(kept, owner)


def test_a_shorter_wish_comes_before_a_longer_one(start: Start) -> None:
    """The timer of the longer one is not waited for."""
    kept, time, owner = keeping(start(), keep_alive_seconds=300.0)
    kept.idle()
    kept.used(2.0)
    kept.idle()
    time.passes(2.0)
    assert is_over(kept, owner)


def test_many_requests_leave_one_timer(start: Start) -> None:
    """A server that is asked for months must not remember each request until its model would have gone."""
    kept, time, owner = keeping(start(), keep_alive_seconds=300.0)
    for _ in range(1000):
        kept.used(None)
        kept.idle()
        time.passes(1.0)
        assert not is_over(kept, owner)
    assert len(time) == 1


def test_a_worker_is_replaced_between_two_requests(start: Start) -> None:
    """What runs ends first, then a fresh worker takes over; nobody fails, and who comes meanwhile waits."""
    house = start(fake("m", "step=0.01"))
    _, stream = house.submit("m", ask("x" * 60))
    stream.wait_for(client.Delta)
    old = house.pid("m")
    house.models["m"].tell(model.Recycle("It takes too much memory."))
    assert isinstance(stream.wait_for(OUTCOMES), client.Finished)
    assert isinstance(house.submit("m", ask("y"))[1].wait_for(OUTCOMES), client.Finished)
    fresh = house.until(lambda: house.view("model:m").facts.get("pid"), lambda pid: pid not in (None, old))
    house.await_state("model:m", "ready")
    assert house.pid("m") == fresh
    assert "quarantined" not in house.path("model:m")
    assert house.path("model:m").count("draining") == 1


def test_a_model_that_is_not_ready_is_not_replaced(start: Start) -> None:
    """There is no worker to replace."""
    house = start(fake("m"))
    house.models["m"].tell(model.Recycle("It takes too much memory."))
    assert isinstance(submit(house, "m", None), client.Finished)
    assert house.path("model:m").count("ready") == 1


def telemetry(process: int, handles: int = 20, threads: int = 8, cache: int = 0, kv: int = 0) -> frames.Telemetry:
    memory = frames.Memory(process=process, prefix_cache=cache, kv=kv)
    return frames.Telemetry(memory=memory, handles=handles, threads=threads)


def test_drift_is_judged_by_the_first_minute(start: Start) -> None:
    """What a worker takes later, but for known prompts and the KV cache, is compared with what it took then."""
    kept, _, _ = keeping(start())
    assert not kept.drift(telemetry(9 * GB), ready_seconds=5.0)
    assert not kept.drift(telemetry(GB), ready_seconds=61.0)
    assert not kept.drift(telemetry(9 * GB, cache=7 * GB, kv=GB), ready_seconds=900.0)
    assert "grew from 1.00 GB to 2.00 GB" in kept.drift(telemetry(2 * GB), ready_seconds=900.0)
    assert "open files" in kept.drift(telemetry(GB, handles=200), ready_seconds=900.0)
    kept.forget()
    assert not kept.drift(telemetry(2 * GB, handles=200), ready_seconds=61.0)


def test_a_worker_tells_its_files_and_threads(start: Start) -> None:
    """Numbers of the real process, with every report of its memory."""
    house = start(fake("m"))
    house.submit("m", ask("x"))[1].wait_for(client.Finished)
    facts = house.until(lambda: house.view("model:m").facts, lambda facts: facts.get("threads") is not None)
    assert isinstance(facts["threads"], int)
    assert facts["threads"] >= 3
    assert isinstance(facts["handles"], int)
    assert 0 <= facts["handles"] < 200
