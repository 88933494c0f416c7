"""Handlers that raise: nobody waits in vain, and what must outlive a crash does."""

import time
from typing import Any

import psutil
import pytest

from lmx.actors.base import Address
from lmx.actors.messages import admission, caller, client, loader, model, server
from lmx.actors.server import ServerActor
from lmx.machines.admission import Limits
from lmx.machines.types import FailureKind, RefusalKind
from tests.support.house import GB, OUTCOMES, Actors, ask, fake
from tests.support.inbox import Inbox

Start = Any
NONSENSE: Any = "not a message"


class Small:
    """A machine of 10 GB: 9 may be used."""

    def free(self) -> int:
        return 10 * GB

    def total(self) -> int:
        return 10 * GB


# The loader


def test_a_loader_that_crashes_answers_who_waits(start: Start) -> None:
    """The wishes in its queue are refused with a sentence, so that their models do not wait for ever."""
    house = start(gauge=Small())
    first: Inbox[model.Message] = Inbox()
    second: Inbox[model.Message] = Inbox()
    house.loader.tell(loader.Acquire("a", 1, GB, False, first))
    house.loader.tell(loader.Acquire("b", 7, GB, False, second))
    first.wait_for(model.Granted)
    house.loader.tell(NONSENSE)
    refused = second.wait_for(model.Refused)
    assert isinstance(refused, model.Refused)
    assert (refused.ticket, refused.refusal.kind) == (7, RefusalKind.MODEL_UNLOADED)
    assert "waited for its turn" in refused.refusal.message
    assert len(first.messages) == 1


def test_a_loader_that_crashes_keeps_the_ledger(start: Start) -> None:
    """What loaded models hold is not granted a second time: one of them must go first."""
    house = start(fake("a"), fake("b"), gauge=Small(), need=8 * GB)
    house.load("a")
    house.loader.tell(NONSENSE)
    assert house.load("b") == caller.Settled("b", "ready")
    assert house.view("model:a").state == "unloaded"


def test_a_loader_that_crashes_stays_in_safe_mode(start: Start) -> None:
    """Loads that were forbidden stay forbidden."""
    house = start(fake("m"))
    house.loader.tell(loader.SetSafeMode("It started too often."))
    house.loader.tell(NONSENSE)
    refused = house.submit("m", ask("x"))[1].wait_for(OUTCOMES)
    assert isinstance(refused, client.Refused)
    assert refused.refusal.kind is RefusalKind.SAFE_MODE
    assert house.view("loader").facts["safe_mode"] == "It started too often."


# A model


def test_who_waits_for_the_unload_of_a_model_that_crashes_is_told(start: Start) -> None:
    """Once its worker is gone, which is what was asked for."""
    house: Actors = start(fake("m", "step=0.01"))
    _, stream = house.submit("m", ask("x" * 3000))
    stream.wait_for(client.Delta)
    pid = house.pid("m")
    gone: Inbox[caller.Reply] = Inbox()
    house.admission.tell(admission.UnloadModel("m", gone))
    house.await_state("model:m", "draining")
    house.models["m"].tell(NONSENSE)
    assert gone.wait_for((caller.Settled, caller.Refused)) == caller.Settled("m", "unloaded")
    assert not psutil.pid_exists(pid)
    assert isinstance(stream.wait_for(OUTCOMES), client.Failed)


def test_the_memory_of_a_model_that_crashes_is_free_when_its_worker_is_gone(start: Start) -> None:
    """Another model is loaded into it, but not before."""
    house: Actors = start(fake("a"), fake("b"), gauge=Small(), need=8 * GB)
    house.load("a")
    pid = house.pid("a")
    house.models["a"].tell(NONSENSE)
    assert house.load("b") == caller.Settled("b", "ready")
    assert not psutil.pid_exists(pid)
    assert isinstance(house.submit("a", ask("again"))[1].wait_for(OUTCOMES), client.Finished)


def test_a_model_that_crashes_stays_shut(start: Start) -> None:
    """The daemon stops: nothing loads again, and it is told when the model is gone."""
    house: Actors = start(fake("m", "load=30"))
    house.admission.tell(admission.LoadModel("m", Inbox()))
    house.until(lambda: house.view("model:m"), lambda view: bool(view.facts.get("pid")))
    told: Inbox[caller.Reply] = Inbox()
    house.models["m"].tell(model.Shut(told))
    house.models["m"].tell(NONSENSE)
    assert told.wait_for((caller.Settled, caller.Refused)) == caller.Settled("m", "unloaded")
    refused = house.submit("m", ask("late"))[1].wait_for(OUTCOMES)
    assert isinstance(refused, client.Refused)
    assert refused.refusal.kind is RefusalKind.DRAINING


def test_a_model_that_crashes_stays_in_quarantine(start: Start) -> None:
    """Why it is there is still what requests are told; an admin still gets it out."""
    house: Actors = start(fake("m", "warm_fails=no; lie=1"))
    assert isinstance(house.load("m"), caller.Refused)
    house.await_state("model:m", "quarantined")
    house.models["m"].tell(NONSENSE)
    refused = house.submit("m", ask("x"))[1].wait_for(OUTCOMES)
    assert isinstance(refused, client.Refused)
    assert refused.refusal.kind is RefusalKind.MODEL_QUARANTINED
    assert "two different greedy answers" in refused.refusal.message
    house.models["m"].tell(model.Load(by_admin=True))
    house.until(lambda: house.path("model:m"), lambda path: path.count("queued") == 2)


# Journal and server


def test_a_journal_that_crashes_forgets_nothing(start: Start) -> None:
    """Readiness and `lmx ps` read from it: what it was told once, nobody tells it again."""
    house: Actors = start(fake("m"))
    house.load("m")
    before = house.board()
    house.journal.tell(NONSENSE)
    after = house.board()
    assert [view.actor for view in after.machines] == [view.actor for view in before.machines]
    assert house.view("model:m").facts["slots"] == 8
    assert len(after.transitions) >= len(before.transitions)


def test_a_server_that_crashes_ends_the_daemon(start: Start) -> None:
    """Nobody would start it a second time: exit code 70, and the daemon manager starts lmx again."""
    house: Actors = start()
    codes: Inbox[int] = Inbox()
    ignored: Inbox[Any] = Inbox()
    actor = ServerActor.start(house.house, ignored, ignored, {}, (), 1.0, codes.tell)
    ref: Address[server.Message] = Address(actor)
    ref.tell(server.Start())
    ref.tell(server.Recovered(""))
    ref.tell(NONSENSE)
    assert codes.wait_for(int) == 70
    assert house.view("server").state == "stopped"
    assert ref.stop(5.0)


# Admission


def test_a_submit_that_crashes_admission_is_answered(start: Start) -> None:
    """Its client hears of the failure, and so do those who were in flight; what comes after is served."""
    house: Actors = start(fake("m", "step=0.01"))
    _, running = house.submit("m", ask("x" * 3000))
    running.wait_for(client.Delta)
    nameless: Any = ["m"]
    _, lost = house.submit(nameless, ask("x"))
    failed = lost.wait_for(OUTCOMES)
    assert isinstance(failed, client.Failed)
    assert failed.failure.kind is FailureKind.INTERNAL
    assert isinstance(running.wait_for(OUTCOMES), client.Failed)
    assert isinstance(house.submit("m", ask("y"))[1].wait_for(OUTCOMES), client.Finished)


def test_admission_that_crashes_while_it_drains_is_drained(start: Start) -> None:
    """The server does not wait for leases that nobody knows any more, and no request slips in."""
    house: Actors = start(fake("m", "step=0.01"))
    _, running = house.submit("m", ask("x" * 3000))
    running.wait_for(client.Delta)
    told: Inbox[server.Message] = Inbox()
    house.admission.tell(admission.Drain(told))
    house.admission.tell(NONSENSE)
    told.wait_for(server.AdmissionDrained)
    assert isinstance(house.submit("m", ask("y"))[1].wait_for(OUTCOMES), client.Refused)


def test_admission_relaxes_as_far_as_it_may(start: Start) -> None:
    """When the last request of a full house ends, it is open again, and not merely less strict."""
    house: Actors = start(fake("m"), limits=Limits(max_in_flight=1))
    request, sink = house.submit("m", ask("x"))
    sink.wait_for(client.Finished)
    assert house.view("admission").state == "shedding"
    house.admission.tell(admission.Release(request))
    house.await_state("admission", "open")


@pytest.mark.parametrize("running", [True, False], ids=["draining", "closed"])
def test_no_model_is_loaded_while_the_server_stops(start: Start, running: bool) -> None:
    """An admin's load is refused at once, with the reason."""
    house: Actors = start(fake("m", "step=0.01"), fake("other"))
    if running:
        house.submit("m", ask("x" * 200))[1].wait_for(client.Delta)
    house.admission.tell(admission.Drain(Inbox()))
    refused = house.load("other")
    assert isinstance(refused, caller.Refused)
    assert refused.refusal.kind is RefusalKind.DRAINING


# An admin's word


def test_an_admins_word_counts_for_one_load(start: Start) -> None:
    """In safe mode a model that an admin loaded, and that was unloaded, is not loaded again by a request."""
    house: Actors = start(fake("m"))
    house.loader.tell(loader.SetSafeMode("It started too often."))
    assert house.load("m") == caller.Settled("m", "ready")
    assert house.load("m") == caller.Settled("m", "ready")
    house.unload("m")
    refused = house.submit("m", ask("x"))[1].wait_for(OUTCOMES)
    assert isinstance(refused, client.Refused)
    assert refused.refusal.kind is RefusalKind.SAFE_MODE


def test_an_admins_word_reaches_a_wish_that_waits(start: Start) -> None:
    """A request's wish to load waits behind another load; an admin who asks meanwhile gets the model in safe mode."""
    house: Actors = start(fake("slow", "load=1"), fake("m"))
    house.loader.tell(loader.SetSafeMode("It started too often."))
    house.admission.tell(admission.LoadModel("slow", Inbox()))
    house.await_state("loader", "spawning")
    _, sink = house.submit("m", ask("x"))
    house.await_state("model:m", "queued")
    began = time.monotonic()
    assert house.load("m") == caller.Settled("m", "ready")
    assert time.monotonic() - began < 15
    assert isinstance(sink.wait_for(OUTCOMES), client.Finished)
