"""A model actor with real workers: loads, serves, dies, comes back."""

import os
import signal
import time
from typing import Any

import psutil

from lmx.actors.messages import admission, caller, client, model
from lmx.machines.canary import Record
from lmx.machines.types import FailureKind, RefusalKind
from tests.support.house import OUTCOMES, Actors, ask, fake, text_of
from tests.support.inbox import Inbox

Start = Any


def test_a_request_loads_the_model_and_is_answered(start: Start) -> None:
    """A request for an unloaded model waits for load, warm-up and canary, and then gets its own answer."""
    house = start(fake("m"))
    _, sink = house.submit("m", ask("hello"))
    finished = sink.wait_for(OUTCOMES)
    assert isinstance(finished, client.Finished)
    assert text_of(sink) == "hello"
    assert (finished.usage.prompt_tokens, finished.usage.completion_tokens) == (5, 6)
    assert house.path("model:m") == ["queued", "loading", "warming", "canary", "ready"]


def test_waiting_requests_share_one_load(start: Start) -> None:
    """Requests that come while the model loads wait for the same worker."""
    house = start(fake("m", "load=0.3"))
    sinks = [house.submit("m", ask(f"n{i}"))[1] for i in range(5)]
    for i, sink in enumerate(sinks):
        sink.wait_for(client.Finished)
        assert text_of(sink) == f"n{i}"
    assert house.path("model:m").count("loading") == 1


def test_every_request_hears_one_outcome(start: Start) -> None:
    """However it ends, a request that was accepted is told exactly one of finished, refused, failed."""
    house = start(fake("m", "step=0.002"))
    sinks = [house.submit("m", ask("x" * (10 + i)))[1] for i in range(20)]
    for sink in sinks:
        sink.wait_for(OUTCOMES)
    house.unload("m")
    for sink in sinks:
        assert sum(isinstance(event, OUTCOMES) for event in sink.messages) == 1


def test_a_killed_worker_is_noticed_at_once_and_comes_back(start: Start) -> None:
    """kill -9 in mid-stream: within a second a new worker is on its way, and another model does not notice."""
    house = start(fake("m", "step=0.01"), fake("other", "step=0.01"))
    house.load("m")
    _, stream = house.submit("m", ask("x" * 3000))
    _, bystander = house.submit("other", ask("y" * 100))
    stream.wait_for(client.Delta)
    bystander.wait_for(client.Delta)
    os.kill(house.pid("m"), signal.SIGKILL)
    killed = time.monotonic()
    house.until(lambda: house.path("model:m"), lambda path: "backoff" in path)
    assert time.monotonic() - killed < 1.0
    assert isinstance(bystander.wait_for(OUTCOMES), client.Finished)
    house.until(lambda: house.path("model:m"), lambda path: path.count("ready") == 2)
    assert house.path("model:m")[-6:] == ["backoff", "queued", "loading", "warming", "canary", "ready"]
    assert house.view("model:m").facts["restarts"] == 1
    heard = len(text_of(stream))
    house.until(lambda: len(text_of(stream)), lambda length: length > heard)


def test_an_engine_that_breaks_says_why(start: Start) -> None:
    """A worker that ends itself tells its reason, and the client gets it."""
    house = start(fake("m", "fatal=token:30"))
    _, sink = house.submit("m", ask("x" * 60))
    failed = sink.wait_for(OUTCOMES)
    assert isinstance(failed, client.Failed)
    assert failed.failure.message == "The engine broke: the script says so"


def test_a_spent_restart_budget_quarantines_and_says_so(start: Start) -> None:
    """A worker that dies at each load is not restarted for ever; requests are refused with the reason."""
    house = start(fake("m", "die=load"))
    _, sink = house.submit("m", ask("hello"))
    refused = sink.wait_for(OUTCOMES, seconds=60)
    assert isinstance(refused, client.Refused)
    assert refused.refusal.kind is RefusalKind.MODEL_QUARANTINED
    assert "SIGKILL" in refused.refusal.message
    assert house.path("model:m").count("loading") == 6
    assert house.view("model:m").state == "quarantined"


def test_a_model_that_lies_is_quarantined_by_its_canary(start: Start) -> None:
    """Two different greedy answers to one prompt: not ready, and an admin's load tries again."""
    house = start(fake("m", "lie=1"))
    reply = house.load("m")
    assert isinstance(reply, caller.Refused)
    assert "different greedy answers" in reply.refusal.message
    assert house.path("model:m")[-1] == "quarantined"
    house.load("m")
    assert house.path("model:m").count("canary") == 2


def test_a_recorded_answer_is_what_the_canary_must_sing(start: Start) -> None:
    """With a record the canary's tokens are compared with it."""
    good = start(fake("m"), record=Record(question="tweet", token_ids=tuple(b"tweet")))
    assert isinstance(good.load("m"), caller.Settled)
    bad = start(fake("m"), record=Record(question="tweet", token_ids=tuple(b"twist")))
    reply = bad.load("m")
    assert isinstance(reply, caller.Refused)
    assert "differs from the recorded one at token 3 of 5" in reply.refusal.message


def test_files_that_cannot_be_served_fail_the_load_once(start: Start) -> None:
    """A failed load is refused with the loader's sentence, is no crash, and does not loop."""
    house = start(fake("m", "fail_load=model.gguf is truncated."))
    _, sink = house.submit("m", ask("hello"))
    refused = sink.wait_for(OUTCOMES)
    assert isinstance(refused, client.Refused)
    assert refused.refusal.kind is RefusalKind.MODEL_LOAD_FAILED
    assert refused.refusal.message == "model.gguf is truncated."
    _, again = house.submit("m", ask("hello"))
    again.wait_for(client.Refused)
    assert house.path("model:m") == ["queued", "loading", "failed"]
    assert house.view("model:m").facts["restarts"] == 0


def test_unload_lets_what_runs_finish_and_gives_the_process_back(start: Start) -> None:
    """Draining waits for the running sequence; `unloaded` means that the process is gone."""
    house = start(fake("m", "step=0.01"))
    _, sink = house.submit("m", ask("x" * 50))
    sink.wait_for(client.Delta)
    pid = house.pid("m")
    assert house.unload("m") == caller.Settled("m", "unloaded")
    assert isinstance(sink.wait_for(OUTCOMES), client.Finished)
    assert not psutil.pid_exists(pid)


def test_a_request_during_an_unload_is_not_stranded(start: Start) -> None:
    """What comes while the model drains waits, and loads it again."""
    house = start(fake("m", "step=0.01"))
    _, first = house.submit("m", ask("x" * 50))
    first.wait_for(client.Delta)
    gone: Inbox[caller.Reply] = Inbox()
    house.admission.tell(admission.UnloadModel("m", gone))
    house.await_state("model:m", "draining")
    _, second = house.submit("m", ask("late"))
    gone.wait_for(caller.Settled)
    assert isinstance(second.wait_for(OUTCOMES), client.Finished)
    assert text_of(second) == "late"


def test_a_load_can_be_stopped(start: Start) -> None:
    """An unload during a load ends the worker and leaves nothing behind."""
    house = start(fake("m", "load=30"))
    asked: Inbox[caller.Reply] = Inbox()
    house.admission.tell(admission.LoadModel("m", asked))
    house.until(lambda: house.view("model:m"), lambda view: bool(view.facts.get("pid")))
    pid = house.pid("m")
    before = time.monotonic()
    assert house.unload("m") == caller.Settled("m", "unloaded")
    assert time.monotonic() - before < 3.0
    assert not psutil.pid_exists(pid)
    assert isinstance(asked.wait_for(caller.Refused), caller.Refused)


def test_a_cancel_reaches_the_worker(start: Start) -> None:
    """After a cancel nothing more is told, the model is idle, and the slot is free for the next one."""
    house: Actors = start(fake("m", "step=0.005", slots=1))
    request, sink = house.submit("m", ask("x" * 3000))
    sink.wait_for(client.Delta)
    house.admission.tell(admission.Cancel(request))
    house.until(lambda: house.view("model:m"), lambda view: view.facts["in_flight"] == 0)
    _, after = house.submit("m", ask("next"))
    after.wait_for(client.Finished, seconds=5)
    assert not any(isinstance(event, OUTCOMES) for event in sink.messages)


def test_a_crash_of_the_actor_loses_no_outcome_and_no_message(start: Start) -> None:
    """A handler that raises fails what it had with an error, is restarted, and serves what came after."""
    house: Actors = start(fake("m", "step=0.01"))
    _, sink = house.submit("m", ask("x" * 3000))
    sink.wait_for(client.Delta)
    pid = house.pid("m")
    house.models["m"].tell("not a message")
    _, after = house.submit("m", ask("next"))
    failed = sink.wait_for(OUTCOMES)
    assert isinstance(failed, client.Failed)
    assert failed.failure.kind is FailureKind.INTERNAL
    assert isinstance(after.wait_for(OUTCOMES), client.Finished)
    house.until(lambda: psutil.pid_exists(pid), lambda alive: not alive)


def test_a_request_may_not_take_for_ever(start: Start) -> None:
    """After the configured time a request is aborted with a timeout, and its slot is free."""
    house: Actors = start(fake("m", "step=0.01"), request_seconds=1.0)
    house.load("m")
    _, sink = house.submit("m", ask("x" * 3000))
    failed = sink.wait_for(OUTCOMES)
    assert isinstance(failed, client.Failed)
    assert failed.failure.kind is FailureKind.TIMEOUT
    assert "1 s" in failed.failure.message
    house.until(lambda: house.view("model:m"), lambda view: view.facts["in_flight"] == 0)


def test_who_asks_for_a_draining_model_gets_it_back(start: Start) -> None:
    """A load that comes while the model drains is answered once it is ready again."""
    house: Actors = start(fake("m", "step=0.01"))
    _, sink = house.submit("m", ask("x" * 60))
    sink.wait_for(client.Delta)
    gone: Inbox[caller.Reply] = Inbox()
    house.admission.tell(admission.UnloadModel("m", gone))
    house.await_state("model:m", "draining")
    assert house.load("m") == caller.Settled("m", "ready")
    assert gone.wait_for(caller.Settled) == caller.Settled("m", "unloaded")


def test_a_shutdown_does_not_wait_for_a_drain(start: Start) -> None:
    """Told to shut while it drains, a model aborts what runs and is gone at once."""
    house: Actors = start(fake("m", "step=0.01"))
    _, sink = house.submit("m", ask("x" * 3000))
    sink.wait_for(client.Delta)
    house.admission.tell(admission.UnloadModel("m", Inbox()))
    house.await_state("model:m", "draining")
    told: Inbox[caller.Reply] = Inbox()
    began = time.monotonic()
    house.models["m"].tell(model.Shut(told))
    assert told.wait_for(caller.Settled) == caller.Settled("m", "unloaded")
    assert time.monotonic() - began < 3.0
    failed = sink.wait_for(OUTCOMES)
    assert isinstance(failed, client.Failed)
    assert failed.failure.kind is FailureKind.ABORTED
    _, late = house.submit("m", ask("late"))
    refused = late.wait_for(OUTCOMES)
    assert isinstance(refused, client.Refused)
    assert refused.refusal.kind is RefusalKind.DRAINING
