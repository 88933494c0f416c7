"""Admission: leases, limits, drain."""

from typing import Any

from lmx.actors.messages import admission, client, server
from lmx.machines.admission import Limits
from lmx.machines.types import FailureKind, RefusalKind
from tests.support.house import OUTCOMES, Actors, ask, fake
from tests.support.inbox import Inbox

Start = Any


def test_an_unknown_model_is_refused_in_openais_words(start: Start) -> None:
    """The client hears which model does not exist; a long name is cut."""
    house = start(fake("m"))
    refused = house.submit("x" * 500, ask("x"))[1].wait_for(client.Refused)
    assert refused.refusal.kind is RefusalKind.MODEL_NOT_FOUND
    assert refused.refusal.message.startswith("The model `" + "x" * 100 + "…` does not exist")


def test_the_limit_counts_leases_down_to_the_last_byte(start: Start) -> None:
    """A finished request holds its place until it is released; then another one is taken."""
    house = start(fake("m"), limits=Limits(max_in_flight=2))
    first, sink = house.submit("m", ask("a"))
    second, _ = house.submit("m", ask("b"))
    sink.wait_for(client.Finished)
    refused = house.submit("m", ask("c"))[1].wait_for(OUTCOMES)
    assert isinstance(refused, client.Refused)
    assert refused.refusal.kind is RefusalKind.QUEUE_FULL
    assert refused.refusal.retry_after
    house.admission.tell(admission.Release(first))
    house.admission.tell(admission.Release(second))
    assert isinstance(house.submit("m", ask("d"))[1].wait_for(OUTCOMES), client.Finished)


def test_sequences_of_one_group_are_one_request(start: Start) -> None:
    """128 choices are one request of the limits; it holds its place until the last of them is released."""
    house = start(fake("m"), limits=Limits(queue=2, max_in_flight=2))
    choices = [house.submit("m", ask("x"), group="big") for _ in range(128)]
    second, sink = house.submit("m", ask("x"))
    assert isinstance(sink.wait_for(OUTCOMES), client.Finished)
    assert all(isinstance(sink.wait_for(OUTCOMES), client.Finished) for _, sink in choices)
    *others, last = [request for request, _ in choices]
    for request in (second, *others):
        house.admission.tell(admission.Release(request))
    extra, sink = house.submit("m", ask("x"))
    assert isinstance(sink.wait_for(OUTCOMES), client.Finished)
    assert isinstance(house.submit("m", ask("x"))[1].wait_for(OUTCOMES), client.Refused)
    house.admission.tell(admission.Release(last))
    house.admission.tell(admission.Release(extra))
    assert isinstance(house.submit("m", ask("x"))[1].wait_for(OUTCOMES), client.Finished)


def test_a_group_that_was_taken_is_taken_whole(start: Start) -> None:
    """When the limit is reached in its middle, or the server begins to stop, its other sequences are taken too."""
    house = start(fake("m", "step=0.01"), limits=Limits(max_in_flight=1))
    house.submit("m", ask("x" * 20), group="big")[1].wait_for(client.Delta)
    house.admission.tell(admission.Drain(Inbox()))
    assert isinstance(house.submit("m", ask("x"), group="big")[1].wait_for(OUTCOMES), client.Finished)
    assert isinstance(house.submit("m", ask("x"), group="other")[1].wait_for(OUTCOMES), client.Refused)


def test_drain_waits_for_no_load(start: Start) -> None:
    """Of requests for a model that loads one goes ahead: it is told so as soon as those behind it."""
    house = start(fake("m", "load=15"))
    ahead, behind = house.submit("m", ask("x"))[1], house.submit("m", ask("x"))[1]
    house.await_state("model:m", "loading")
    house.admission.tell(admission.Drain(Inbox()))
    aborted, refused = ahead.wait_for(OUTCOMES, 5.0), behind.wait_for(OUTCOMES, 5.0)
    assert isinstance(aborted, client.Failed)
    assert aborted.failure.kind is FailureKind.ABORTED
    assert isinstance(refused, client.Refused)


def test_drain_lets_the_running_finish_and_takes_no_more(start: Start) -> None:
    """The server hears that admission is drained after the last release, not before."""
    house = start(fake("m", "step=0.01"))
    request, sink = house.submit("m", ask("x" * 50))
    sink.wait_for(client.Delta)
    told: Inbox[server.Message] = Inbox()
    house.admission.tell(admission.Drain(told))
    refused = house.submit("m", ask("late"))[1].wait_for(OUTCOMES)
    assert isinstance(refused, client.Refused)
    assert refused.refusal.kind is RefusalKind.DRAINING
    assert isinstance(sink.wait_for(OUTCOMES), client.Finished)
    assert told.messages == []
    house.admission.tell(admission.Release(request))
    told.wait_for(server.AdmissionDrained)
    assert house.view("admission").state == "closed"


def test_what_waits_is_refused_when_the_server_stops(start: Start) -> None:
    """At once, so that its client asks elsewhere; what the model has been given is finished."""
    house: Actors = start(fake("m", "step=0.01", slots=1))
    house.load("m")
    begun = [house.submit("m", ask("x" * 30))[1] for _ in range(3)]
    waiting = [house.submit("m", ask("x"))[1] for _ in range(4)]
    house.admission.tell(admission.Drain(Inbox()))
    for sink in waiting:
        refused = sink.wait_for(OUTCOMES, 1.0)
        assert isinstance(refused, client.Refused)
        assert refused.refusal.kind is RefusalKind.DRAINING
    assert all(isinstance(sink.wait_for(OUTCOMES), client.Finished) for sink in begun)


def test_short_memory_refuses_new_requests(start: Start) -> None:
    """What is there goes on; when there is memory again, so do new ones."""
    house: Actors = start(fake("m", "step=0.01"))
    _, sink = house.submit("m", ask("x" * 50))
    sink.wait_for(client.Delta)
    house.admission.tell(admission.SetPressure(True))
    refused = house.submit("m", ask("y"))[1].wait_for(OUTCOMES)
    assert isinstance(refused, client.Refused)
    assert (refused.refusal.kind, refused.refusal.retry_after) == (RefusalKind.MEMORY_PRESSURE, 10.0)
    assert isinstance(sink.wait_for(OUTCOMES), client.Finished)
    house.admission.tell(admission.SetPressure(False))
    assert isinstance(house.submit("m", ask("y"))[1].wait_for(OUTCOMES), client.Finished)
