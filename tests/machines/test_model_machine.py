"""The life of a model, by the machine alone."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmx.machines import life
from lmx.machines.base import Deadline, TransitionNotAllowed
from lmx.machines.model import ModelMachine
from lmx.machines.types import FailureKind, Refusal, RefusalKind

DIES = {"reason": "It died.", "now": 0.0, "chance": 0.0, "healthy": 0.0}


def machine(*events: str) -> ModelMachine:
    born = ModelMachine()
    for event in events:
        born.step(event, **DIES)
    return born


READY = ("request", "granted", "loaded", "warmed", "canary_passed")


def test_the_good_life() -> None:
    """A request leads over queue, load, warm-up and canary to ready; a drain leads back to unloaded."""
    born = ModelMachine()
    states = [born.current]
    for event in (*READY, "drain", "drained", "worker_exited"):
        born.step(event, **DIES)
        states.append(born.current)
    assert states == [
        "unloaded", "queued", "loading", "warming", "canary", "ready", "draining", "unloading", "unloaded",
    ]  # fmt: skip


def test_each_step_of_a_load_asks_for_one_thing() -> None:
    """Entering a state of the load emits exactly the effect that the state is waiting for."""
    born = ModelMachine()
    asked = [type(effect) for event in READY for effect in born.step(event, **DIES)]
    assert asked == [life.AcquireLoader, life.SpawnWorker, life.WarmUp, life.RunCanary, life.Open]


def test_a_failed_warm_up_is_no_reason_not_to_sing() -> None:
    """Warm-up may fail, the canary may not."""
    assert machine("request", "granted", "loaded", "warm_failed").current == "canary"
    assert machine("request", "granted", "loaded", "warmed", "canary_failed").current == "quarantined"


@pytest.mark.parametrize("state", ["loading", "warming", "canary", "ready"])
def test_a_death_in_any_living_state_backs_off_and_holds_what_ran(state: str) -> None:
    """A worker's exit interrupts what the worker held, gives the memory back, and schedules a retry."""
    born = machine(*READY[: {"loading": 2, "warming": 3, "canary": 4, "ready": 5}[state]])
    *_, interrupt, give_back, schedule = born.step("worker_exited", **DIES)
    assert born.current == "backoff"
    assert isinstance(interrupt, life.Interrupt)
    assert interrupt.failure.kind is FailureKind.WORKER_DIED
    assert isinstance(give_back, life.GiveBackMemory)
    assert schedule == life.Schedule(0.0, "retry")


def test_a_spent_budget_quarantines_and_requests_are_refused_with_the_reason() -> None:
    """The sixth death within 30 s quarantines; the refusal says why and that clients may try later."""
    born = ModelMachine()
    born.step("request")
    for _ in range(5):
        born.step("granted")
        born.step("worker_exited", **DIES)
        born.step("retry")
    born.step("granted")
    born.step("worker_exited", **DIES)
    assert born.current == "quarantined"
    answer = born.answer()
    assert isinstance(answer, Refusal)
    assert answer.kind is RefusalKind.MODEL_QUARANTINED
    assert "It died." in answer.message
    assert answer.retry_after


def test_an_admin_releases_a_quarantined_model_with_a_fresh_budget() -> None:
    """`release` leads back to the queue, and earlier deaths are forgotten."""
    born = machine("request", "granted", "loaded", "warmed", "canary_failed", "release")
    assert born.current == "queued"
    born.step("granted")
    born.step("worker_exited", **DIES)
    assert born.current == "backoff"


def test_failed_to_load_is_not_crashed() -> None:
    """Files that cannot be served lead to `failed`, not into a restart loop; the refusal says what is wrong."""
    born = machine("request", "granted")
    born.step("load_failed", reason="model.gguf is truncated.")
    assert born.current == "failed"
    answer = born.answer()
    assert isinstance(answer, Refusal)
    assert (answer.kind, answer.message) == (RefusalKind.MODEL_LOAD_FAILED, "model.gguf is truncated.")
    assert born.step("cooled") == (life.Closed(),)


@pytest.mark.parametrize("state", ["loading", "warming", "canary", "unloading"])
def test_a_wedge_is_a_death_made_by_us(state: str) -> None:
    """A passed deadline kills the worker, and the model says so: the exit that follows decides where to go."""
    ways = {"loading": READY[:2], "warming": READY[:3], "canary": READY[:4], "unloading": (*READY, "drain", "drained")}
    born = machine(*ways[state])
    assert born.step("timed_out", reason="") == (life.KillWorker(),)
    assert born.current == "killed"
    born.step("worker_exited", **DIES)
    assert born.current == ("unloaded" if state == "unloading" else "backoff")


@pytest.mark.parametrize("state", ["loading", "ready", "unloading"])
def test_a_worker_that_nobody_can_kill_is_told_of(state: str) -> None:
    """10 s after the kill, whoever waits is refused with the reason, and so is who comes; its exit mends it."""
    ways = {"loading": READY[:2], "ready": READY, "unloading": (*READY, "drain", "drained")}
    born = machine(*ways[state], "wedged")
    assert born.deadline() == Deadline(10.0, "survived")
    assert born.answer() == "wait"
    interrupt, refuse = born.step("survived", reason="")
    assert (born.current, isinstance(interrupt, life.Interrupt)) == ("unkillable", True)
    answer = born.answer()
    assert isinstance(answer, Refusal)
    assert "does not let it end" in answer.message
    assert refuse == life.RefuseWaiting(answer)
    born.step("worker_exited", **DIES)
    assert born.current == ("unloaded" if state == "unloading" else "backoff")
    assert born.answer() == "wait"


def test_a_worker_that_cannot_be_started_is_no_crash() -> None:
    """A hundred in a row spend no budget and quarantine nobody; the fourth tells those who wait, and a load forgets."""
    born = machine("request")
    delays, told = [], []
    for _ in range(100):
        born.step("granted")
        give_back, wait, *rest = born.step("not_started", reason="No process.", chance=0.0)
        assert (born.current, give_back) == ("backoff", life.GiveBackMemory())
        assert isinstance(wait, life.Schedule)
        assert not wait.restart
        delays.append(wait.seconds)
        told.append(rest)
        if rest:
            refusal = Refusal(RefusalKind.MODEL_UNLOADED, "No process.", wait.seconds)
            assert (rest, born.answer()) == ([life.RefuseWaiting(refusal)], refusal)
        born.step("retry")
    assert delays[:8] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert [bool(rest) for rest in told[:5]] == [False, False, False, True, True]
    assert (born.budget.recent, born.budget.in_a_row) == ([], 0)
    for event in (*READY[1:], "worker_exited"):
        born.step(event, **DIES)
    assert (born.current, born.answer(), born.unstarted) == ("backoff", "wait", 0)


EVENTS = sorted({name for state in ModelMachine.states for t in state.transitions for name in t.event.split()})


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(EVENTS), max_size=25))
def test_a_model_can_always_be_drained_and_always_be_ready_again(events: list[str]) -> None:
    """From every state that any history reaches, `drain` leads home, and from there the model becomes ready."""
    born = ModelMachine()
    for event in events:
        try:
            born.step(event, **DIES)
        except TransitionNotAllowed:
            continue
    for event in ("drain", "drained", "worker_exited"):
        try:
            born.step(event, **DIES)
        except TransitionNotAllowed:
            continue
    assert born.current == "unloaded"
    for event in READY:
        born.step(event, **DIES)
    assert born.current == "ready"


@pytest.mark.parametrize("worker", [True, False])
def test_what_outlives_a_crash_of_the_actor(worker: bool) -> None:
    """The restarts so far, and a quarantine; a worker that is being killed is waited for."""
    born = machine(*READY, "worker_exited")
    heir = born.reborn(worker=worker)
    assert heir.current == ("unloading" if worker else "unloaded")
    assert heir.budget is born.budget
    if worker:
        effects = heir.step("worker_exited", reason="gone", now=0.0, chance=0.0, healthy=0.0)
        assert effects[1:] == (life.GiveBackMemory(), life.Closed())
    ill = machine(*READY[:4], "canary_failed")
    assert ill.reborn(worker=worker).current == "quarantined"
    assert ill.reborn(worker=worker).answer() == ill.answer()
