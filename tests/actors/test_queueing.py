"""Requests that wait for their model: in turn, for a bounded time, and without leaving anything behind."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
from prometheus_client import REGISTRY

from lmx.actors.messages import admission, caller, client, model
from lmx.machines.admission import Limits
from lmx.machines.types import FailureKind, RefusalKind
from tests.support.house import OUTCOMES, Actors, ask, fake, text_of
from tests.support.inbox import Inbox

Start = Any
Sink = Inbox[client.Event]
NAMES = count()
NONSENSE: Any = "not a message"


def name() -> str:
    """Metrics outlive a house: each test has a model of its own."""
    return f"q{next(NAMES)}"


def queued(model: str, priority: str = "interactive") -> float | None:
    return REGISTRY.get_sample_value("lmx_queued_requests", {"model": model, "class": priority})


def refusal(sink: Sink, seconds: float = 20.0) -> client.Refused:
    outcome = sink.wait_for(OUTCOMES, seconds)
    assert isinstance(outcome, client.Refused), outcome
    return outcome


def failure(sink: Sink) -> client.Failed:
    outcome = sink.wait_for(OUTCOMES)
    assert isinstance(outcome, client.Failed), outcome
    return outcome


def is_served(sink: Sink, seconds: float = 20.0) -> bool:
    return isinstance(sink.wait_for(OUTCOMES, seconds), client.Finished)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The worker stands still meanwhile: whatever it is given stays."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def narrow(start: Start, script: str = "", **options: Any) -> tuple[Actors, str]:
    """A house with one loaded model of one slot: it is given three sequences at once."""
    of = name()
    house: Actors = start(fake(of, script, slots=1), **options)
    assert house.load(of) == caller.Settled(of, "ready")
    return house, of


def full(start: Start, **options: Any) -> tuple[Actors, str, list[tuple[str, Sink]]]:
    """The same, and three sequences that take long."""
    house, of = narrow(start, "step=0.01", **options)
    return house, of, [house.submit(of, ask("x" * 2000)) for _ in range(3)]


def end(house: Actors, held: list[tuple[str, Sink]]) -> None:
    for request, _ in held:
        house.admission.tell(admission.Cancel(request))


def test_a_model_is_given_what_it_takes_and_the_rest_waits(start: Start) -> None:
    """What waits is counted exactly, is given to the model as it has room, and all of it is served."""
    house, of = narrow(start)
    with stopped(house.pid(of)):
        sinks = [house.submit(of, ask(f"{number}"))[1] for number in range(8)]
        house.until(lambda: queued(of), lambda waiting: waiting == 5)
        house.until(lambda: house.view(f"model:{of}").facts["in_flight"], lambda known: known == 3)
    assert all(is_served(sink) for sink in sinks)
    assert [text_of(sink) for sink in sinks] == [f"{number}" for number in range(8)]
    assert queued(of) == 0


def test_all_slots_are_filled_at_once(start: Start) -> None:
    """Sixteen requests on sixteen slots: none of them waits."""
    of = name()
    house: Actors = start(fake(of, slots=16))
    house.load(of)
    with stopped(house.pid(of)):
        sinks = [house.submit(of, ask("x"))[1] for _ in range(16)]
        house.until(lambda: house.view(f"model:{of}").facts["in_flight"], lambda known: known == 16)
        assert queued(of) == 0
    assert all(is_served(sink) for sink in sinks)


def test_a_slow_reader_holds_no_place(start: Start) -> None:
    """A slot is free when its sequence has ended, though its client has not read everything."""
    house, of = narrow(start)
    assert all(is_served(house.submit(of, ask("x"))[1]) for _ in range(12))


def test_clients_are_served_in_turn(start: Start) -> None:
    """One client's forty requests do not come before those that another one sends after them."""
    house, of = narrow(start, "step=0.005")
    greedy = [house.submit(of, ask("x" * 5), "greedy")[1] for _ in range(40)]
    modest = [house.submit(of, ask("x" * 5), "modest")[1] for _ in range(4)]
    assert all(is_served(sink) for sink in modest)
    assert sum(any(isinstance(event, client.Finished) for event in sink.messages) for sink in greedy) < 20
    assert all(is_served(sink) for sink in greedy)


def test_a_queue_is_bounded_and_says_so_at_once(start: Start) -> None:
    """T-ENV-2: of 1,000 requests of one client 64 wait; the next one is refused within 50 ms, with a Retry-After."""
    house, of, held = full(start)
    sinks = [house.submit(of, ask("y"))[1] for _ in range(1000)]
    refused = refusal(sinks[-1])
    assert queued(of) == 64
    assert sum(bool(sink.messages) for sink in sinks) == 936
    assert refused.refusal.kind is RefusalKind.QUEUE_FULL
    assert refused.refusal.retry_after is not None
    assert 1 <= refused.refusal.retry_after <= 60
    began = time.monotonic()
    refusal(house.submit(of, ask("z"))[1])
    assert time.monotonic() - began <= 0.05
    end(house, held)
    assert all(is_served(sink) for sink in sinks[:64])


def test_all_clients_together_are_bounded(start: Start) -> None:
    """T-ENV-2: 256 wait in all; the 257th is refused, and a client that has nothing yet finds room before that."""
    house, of, _ = full(start)
    for number in range(4):
        for _ in range(64):
            house.submit(of, ask("y"), f"c{number}")
    house.until(lambda: queued(of), lambda waiting: waiting == 256)
    assert refusal(house.submit(of, ask("y"), "late")[1]).refusal.kind is RefusalKind.QUEUE_FULL
    assert house.view("admission").state == "shedding"


def test_another_model_is_not_refused_for_the_queue_of_one(start: Start) -> None:
    """Whoever need not wait is served, however many wait elsewhere."""
    of, other = name(), name()
    house: Actors = start(fake(of, "step=0.01", slots=1), fake(other), limits=Limits(queue=4))
    house.load(of)
    house.load(other)
    for _ in range(7):
        house.submit(of, ask("x" * 2000))
    house.await_state("admission", "shedding")
    assert is_served(house.submit(other, ask("x"))[1])


def test_who_waits_too_long_is_refused(start: Start) -> None:
    """With a Retry-After; what the model has been given goes on."""
    house, of, held = full(start, queue_seconds=0.3)
    refused = refusal(house.submit(of, ask("y"))[1])
    assert refused.refusal.kind is RefusalKind.QUEUE_TIMEOUT
    assert refused.refusal.retry_after is not None
    assert queued(of) == 0
    assert not any(isinstance(event, client.Refused) for _, sink in held for event in sink.messages)


def test_the_time_of_a_load_does_not_count(start: Start) -> None:
    """Requests for a model that loads wait for the end of that, all for one load, and are then served."""
    of = name()
    house: Actors = start(fake(of, "load=1.0", slots=1), queue_seconds=0.4)
    sinks = [house.submit(of, ask("x"))[1] for _ in range(6)]
    assert all(is_served(sink) for sink in sinks)
    assert house.path(f"model:{of}").count("loading") == 1


def test_a_failed_load_is_told_to_all_who_wait(start: Start) -> None:
    """At once, and after one attempt: nobody tries again for the next one in the queue."""
    of = name()
    house: Actors = start(fake(of, "load=0.3; fail_load=The file is broken."))
    sinks = [house.submit(of, ask("x"))[1] for _ in range(6)]
    assert {refusal(sink).refusal.kind for sink in sinks} == {RefusalKind.MODEL_LOAD_FAILED}
    assert house.path(f"model:{of}").count("loading") == 1
    assert queued(of) == 0


def test_a_dead_worker_is_waited_for(start: Start) -> None:
    """What waits in admission does not notice that the worker died, but for the time that it takes."""
    house, of, held = full(start)
    sinks = [house.submit(of, ask("y"))[1] for _ in range(4)]
    house.until(lambda: queued(of), lambda waiting: waiting == 4)
    os.kill(house.pid(of), signal.SIGKILL)
    house.until(lambda: house.path(f"model:{of}"), lambda path: "backoff" in path)
    end(house, held)
    assert all(is_served(sink) for sink in sinks)


def test_who_leaves_the_queue_leaves_nothing_behind(start: Start) -> None:
    """F20: a request whose client is gone while it waits is told nothing and never reaches the model."""
    house, of, held = full(start)
    requests = [house.submit(of, ask("y")) for _ in range(5)]
    house.until(lambda: queued(of), lambda waiting: waiting == 5)
    end(house, requests)
    house.until(lambda: queued(of), lambda waiting: waiting == 0)
    end(house, held)
    house.until(lambda: house.view(f"model:{of}").facts["in_flight"], lambda known: known == 0)
    assert is_served(house.submit(of, ask("z"))[1])
    assert all(sink.messages == [] for _, sink in requests)


@pytest.mark.parametrize("wanted", [False, True], ids=["by nobody else", "from the start"])
def test_a_load_that_nobody_waits_for_is_withdrawn(start: Start, wanted: bool) -> None:
    """A model that waits for its turn to load gives it up with its last request; not if it was to be loaded anyway."""
    slow, of = name(), name()
    house: Actors = start(fake(slow, "load=30"), fake(of))
    house.models[slow].tell(model.Load())
    house.await_state(f"model:{slow}", "loading")
    if wanted:
        house.models[of].tell(model.Load())
    requests = [house.submit(of, ask("x")) for _ in range(3)]
    house.await_state(f"model:{of}", "queued")
    end(house, requests[:2])
    last = house.submit(of, ask("x"))
    house.until(lambda: queued(of), lambda waiting: waiting == 1)
    assert house.view(f"model:{of}").state == "queued"
    end(house, [*requests[2:], last])
    if wanted:
        house.until(lambda: house.view(f"model:{of}").facts["in_flight"], lambda known: known == 0)
        assert house.view(f"model:{of}").state == "queued"
    else:
        house.await_state(f"model:{of}", "unloaded")
    assert isinstance(house.unload(slow), caller.Settled)
    if wanted:
        house.await_state(f"model:{of}", "ready")
    else:
        assert "loading" not in house.path(f"model:{of}")


@pytest.mark.parametrize("waiting", [True, False], ids=["waiting", "running"])
def test_a_request_may_be_in_a_hurry(start: Start, waiting: bool) -> None:
    """Its own time counts from admission, wherever it is then: a time-out, and its place is free."""
    house, of = narrow(start, "step=0.01")
    held = [house.submit(of, ask("x" * 2000)) for _ in range(3)] if waiting else []
    _, sink = house.submit(of, ask("y" * 2000), seconds=0.3)
    failed = failure(sink)
    assert failed.failure.kind is FailureKind.TIMEOUT
    assert "0.3 s" in failed.failure.message
    end(house, held)
    assert is_served(house.submit(of, ask("z"))[1])


def test_every_request_has_the_servers_time_at_most(start: Start) -> None:
    """A longer time than the server's is not longer."""
    house, of = narrow(start, "step=0.01", request_seconds=0.3)
    assert failure(house.submit(of, ask("x" * 2000), seconds=500)[1]).failure.kind is FailureKind.TIMEOUT


def test_a_key_that_is_at_work_is_refused(start: Start) -> None:
    """B100: the same Idempotency-Key while the first request runs; another client's, or a later one, is served."""
    house, of = narrow(start, "step=0.01")
    first, sink = house.submit(of, ask("x" * 30), key="k")
    sink.wait_for(client.Delta)
    refused = refusal(house.submit(of, ask("x" * 30), key="k")[1])
    assert (refused.refusal.kind, refused.refusal.retry_after) == (RefusalKind.DUPLICATE, None)
    assert is_served(house.submit(of, ask("y"), "another", key="k")[1])
    assert is_served(sink)
    house.admission.tell(admission.Release(first))
    assert is_served(house.submit(of, ask("x"), key="k")[1])


@pytest.mark.parametrize("waiting", [True, False], ids=["waiting", "running"])
def test_a_retry_with_the_same_key_takes_over(start: Start, waiting: bool) -> None:
    """The older request ends as superseded, all its choices with it, and the newer one is served."""
    house, of = narrow(start, "step=0.01")
    held = [house.submit(of, ask("x" * 2000)) for _ in range(3)] if waiting else []
    older = [house.submit(of, ask("y" * 500), group="g", key="k") for _ in range(2)]
    if not waiting:
        older[0][1].wait_for(client.Delta)
    _, newer = house.submit(of, ask("y"), key="k", retry=True)
    for _, sink in older:
        failed = failure(sink)
        assert (failed.failure.kind, failed.failure.retry) == (FailureKind.SUPERSEDED, False)
    end(house, held)
    assert is_served(newer)


def test_the_same_request_without_a_key_is_another_one(start: Start) -> None:
    """Several samples of one prompt are asked for like this, also by clients that retry some of them."""
    house, of = narrow(start)
    assert all(is_served(house.submit(of, ask("x"), retry=retry)[1]) for retry in (False, False, True, True))


def test_who_comes_back_goes_on_where_it_was(start: Start) -> None:
    """A retry of a request that gave up waiting is served before those that came after it."""
    house, of, held = full(start)
    request, _ = house.submit(of, ask("impatient"), "a")
    others = [house.submit(of, ask("y" * 50), f"b{number}")[1] for number in range(5)]
    house.admission.tell(admission.Cancel(request))
    _, again = house.submit(of, ask("impatient"), "a", retry=True)
    end(house, held)
    assert is_served(again)
    assert not any(isinstance(event, client.Finished) for sink in others for event in sink.messages)


def test_what_waits_for_an_alias_moves_with_it(start: Start) -> None:
    """It is kept while the alias means nothing, and served by the model that it means then."""
    old, new = name(), name()
    house: Actors = start(fake(old, "step=0.01", slots=1), fake(new))
    house.admission.tell(admission.Route("best", old))
    held = [house.submit("best", ask("x" * 2000)) for _ in range(3)]
    waits = house.submit("best", ask("y"))[1]
    house.until(lambda: queued(old), lambda waiting: waiting == 3, 5.0)
    house.await_state(f"model:{old}", "ready")
    house.until(lambda: queued(old), lambda waiting: waiting == 1)
    house.admission.tell(admission.Route("best", None))
    comes = house.submit("best", ask("z"))[1]
    house.until(lambda: (queued(old), queued("best")), lambda waiting: waiting == (0, 2))
    house.admission.tell(admission.Route("best", new))
    assert is_served(waits)
    assert is_served(comes)
    end(house, held)


def test_a_flood_of_cancels_stays_one_clients_own_matter(start: Start) -> None:
    """F62: 10,000 requests that are cancelled at once leave nothing, and another client's are served in between."""
    house, of = narrow(start)
    served = []
    for number in range(10_000):
        request, _ = house.submit(of, ask("x"), "flood")
        house.admission.tell(admission.Cancel(request))
        if number % 2500 == 0:
            served.append(house.submit(of, ask("y"), "calm")[1])
    assert all(is_served(sink) for sink in served)
    assert is_served(house.submit(of, ask("z"), "flood")[1])  # behind all of them: now they are over
    assert queued(of) == 0
    house.until(lambda: house.view(f"model:{of}").facts["in_flight"], lambda known: known == 0)


def test_admission_that_crashes_tells_who_waits(start: Start) -> None:
    """Everything that it held fails, waiting or running; then it serves again, with all slots of the model."""
    house, of, held = full(start)
    waits = house.submit(of, ask("y"))[1]
    house.until(lambda: queued(of), lambda waiting: waiting == 1)
    house.admission.tell(NONSENSE)
    for sink in (waits, *(sink for _, sink in held)):
        assert failure(sink).failure.kind is FailureKind.INTERNAL
    assert queued(of) == 0
    assert all(is_served(sink) for sink in [house.submit(of, ask("z"))[1] for _ in range(8)])
    house.escalations.clear()


def test_a_model_that_crashes_keeps_nobody_waiting(start: Start) -> None:
    """What it had been given fails; what waits is served when it is loaded again."""
    house, of, held = full(start)
    waits = [house.submit(of, ask("y"))[1] for _ in range(4)]
    house.until(lambda: queued(of), lambda waiting: waiting == 4)
    house.models[of].tell(NONSENSE)
    assert all(failure(sink).failure.kind is FailureKind.INTERNAL for _, sink in held)
    assert all(is_served(sink) for sink in waits)
