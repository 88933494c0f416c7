"""How a quarantine begins, is tried, and ends; by the model's machine alone."""

import pytest

from lmx.machines import life
from lmx.machines.base import Deadline, Effect
from lmx.machines.model import ModelMachine
from lmx.machines.types import Refusal, RefusalKind

DIES = {"reason": "It died.", "now": 0.0, "chance": 0.0, "healthy": 0.0}
SINGS = ("granted", "loaded", "warmed", "canary_passed")


def feed(machine: ModelMachine, *events: str) -> list[Effect]:
    """All that came of the last event."""
    effects: tuple[Effect, ...] = ()
    for event in events:
        effects = machine.step(event, **DIES)
    return list(effects)


def quarantined() -> ModelMachine:
    machine = ModelMachine()
    feed(machine, "request", "granted", "loaded", "warmed", "canary_failed")
    return machine


def test_it_is_to_be_remembered_with_its_reason() -> None:
    """What begins a quarantine is told, whatever the way into it."""
    machine = ModelMachine()
    effects = feed(machine, "request", *SINGS[:3], "canary_failed")
    assert life.RememberQuarantine("It died.") in effects
    assert life.KillWorker() in effects


def test_a_model_that_serves_is_quarantined_by_a_bad_canary_too() -> None:
    """The worker is killed, and what it held fails with `retry: false`."""
    machine = ModelMachine()
    effects = feed(machine, "request", *SINGS, "canary_failed")
    assert machine.current == "quarantined"
    assert life.KillWorker() in effects
    failures = [effect.failure for effect in effects if isinstance(effect, life.AbortRunning)]
    assert [failure.retry for failure in failures] == [False]


def test_it_may_begin_there() -> None:
    """Requests are refused with the old reason, and the time until the trial runs."""
    machine = ModelMachine.in_quarantine("It lied.")
    answer = machine.answer()
    assert isinstance(answer, Refusal)
    assert answer.kind is RefusalKind.MODEL_QUARANTINED
    assert "It lied." in answer.message
    assert machine.deadline() == Deadline(600.0, "half_open")


@pytest.mark.parametrize(
    "failure",
    [
        ("granted", "load_failed"),
        ("granted", "worker_exited"),
        ("granted", "loaded", "worker_exited"),
        ("granted", "loaded", "warmed", "worker_exited"),
        ("granted", "loaded", "warmed", "canary_failed"),
    ],
    ids=" ".join,
)
def test_a_trial_that_fails_in_any_way_doubles_the_time(failure: tuple[str, ...]) -> None:
    """600 s, 1200 s, 2400 s, then an hour; nothing else is tried in between."""
    machine = quarantined()
    times = []
    for _ in range(5):
        deadline = machine.deadline()
        assert deadline is not None
        times.append(deadline.seconds)
        effects = feed(machine, "half_open", *failure)
        assert machine.current == "quarantined"
        assert life.RememberQuarantine("It died.") in effects
    assert times == [600.0, 1200.0, 2400.0, 3600.0, 3600.0]


def test_only_a_canary_that_passes_ends_it_by_itself() -> None:
    """Not the trial's beginning; and then the next one begins with the first time again."""
    machine = quarantined()
    assert life.ForgetQuarantine() not in feed(machine, "half_open")
    feed(machine, *SINGS[:3])
    assert life.ForgetQuarantine() in feed(machine, "canary_passed")
    feed(machine, "canary_failed")
    assert machine.deadline() == Deadline(600.0, "half_open")


@pytest.mark.parametrize("event", ["release", "drain"])
def test_an_admin_ends_it_at_once(event: str) -> None:
    """By a load and by an unload."""
    assert life.ForgetQuarantine() in feed(quarantined(), event)


def test_a_good_life_says_nothing_of_quarantines() -> None:
    """Nobody is told of the end of what never was."""
    machine = ModelMachine()
    seen = [effect for event in ("request", *SINGS, "drain") for effect in feed(machine, event)]
    assert not [e for e in seen if isinstance(e, life.ForgetQuarantine | life.RememberQuarantine)]


def test_a_trial_survives_the_loss_of_its_actor() -> None:
    """The heir of a machine on trial is on trial."""
    machine = quarantined()
    feed(machine, "half_open", "granted")
    heir = machine.reborn(worker=True)
    feed(heir, "worker_exited", "request", "granted", "load_failed")
    assert heir.deadline() == Deadline(1200.0, "half_open")


def test_an_idle_model_whose_canary_never_ends_loses_its_worker() -> None:
    """It serves nobody any more until that has exited; then it is any other death."""
    machine = ModelMachine()
    assert feed(machine, "request", *SINGS, "timed_out") == [life.StopTaking(), life.KillWorker("It died.")]
    assert machine.current == "killed"
    feed(machine, "worker_exited")
    assert machine.current == "backoff"
