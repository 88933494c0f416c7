"""Single bad days of a simulated daemon that take hours, or a kernel that is broken: what is told, and how it ends."""

import errno
from typing import Any

import pytest

from lmx.actors.messages import admission, caller, client, model
from lmx.machines.types import RefusalKind
from tests.chaos.simulated.daemon import SimDaemon
from tests.chaos.simulated.hour import quiet
from tests.chaos.simulated.worker import SimWorker
from tests.support.inbox import Inbox

TICK = 1.5


@pytest.fixture
def day() -> SimDaemon:
    """With model a loaded."""
    quiet()
    daemon = SimDaemon(3)
    daemon.load("a")
    daemon.world.run(20.0)
    assert daemon.state("a") == "ready"
    return daemon


def latest(daemon: SimDaemon) -> SimWorker:
    return daemon.launched["a"][-1]


def facts(daemon: SimDaemon) -> dict[str, Any]:
    found: dict[str, Any] = daemon.world.actor("journal")._facts["model:a"]
    return found


def quarantines(daemon: SimDaemon) -> bool:
    return daemon.state("a") == "quarantined"


def test_slots_come_back_by_themselves(day: SimDaemon) -> None:
    """Two lost; each half hour of service gives one back with a planned restart, while nothing is served and without
    a failed request; until then it is shown."""
    for lost in (1, 2):
        latest(day).die("oom", "It was out of memory.")
        day.world.run(20.0)
        assert latest(day).slots == 4 - lost
    assert facts(day)["fewer_slots"].startswith("2 of 4 since it was out of memory")
    asked = []
    for _ in range(65):
        asked.append(day.clients.ask("a"))
        day.world.run(60.0)
    assert latest(day).slots == 4
    assert [worker.slots for worker in day.launched["a"]] == [4, 3, 2, 3, 4]
    assert facts(day)["fewer_slots"] is None
    assert all(isinstance(one.outcome, client.Finished) for one in asked)


def test_a_planned_restart_gives_no_slot_before_its_time(day: SimDaemon) -> None:
    """An admin's unload and load a minute after the death change nothing."""
    latest(day).die("oom", "It was out of memory.")
    day.world.run(60.0)
    day.unload("a")
    day.world.run(5.0)
    day.load("a")
    day.world.run(20.0)
    assert (day.state("a"), latest(day).slots) == ("ready", 3)


def test_a_worker_that_nobody_can_kill_is_told_of(day: SimDaemon) -> None:
    """It hangs in the kernel: who is served, who waits and who comes hear of it within seconds of the kill, and so do
    admins; no second worker is started; when it is gone at last the model is well by itself."""
    busy = day.clients.ask("a")
    day.world.run(0.5)
    latest(day).hold()
    day.world.run(30.0)  # the verdict, the kill, and ten seconds in which nothing comes of that
    assert day.state("a") == "unkillable"
    assert isinstance(busy.outcome, client.Failed)
    assert "does not let it end" in busy.outcome.failure.message
    late = day.clients.ask("a")
    told: Inbox[caller.Reply] = Inbox()
    day.admission.tell(admission.LoadModel("a", told))
    day.world.run(1.0)
    assert isinstance(late.outcome, client.Refused)
    assert late.outcome.refusal.kind is RefusalKind.MODEL_UNLOADED
    assert isinstance(told.messages[0], caller.Refused)
    day.admission.tell(admission.UnloadModel("a", told))
    day.world.run(20.0)
    assert day.state("a") == "unkillable"
    assert isinstance(told.messages[1], caller.Refused)
    assert len(day.launched["a"]) == 1
    day.load("a")
    latest(day).let_go()
    day.world.run(20.0)
    again = day.clients.ask("a")
    day.world.run(20.0)
    assert isinstance(again.outcome, client.Finished)
    assert list(day.world.actor("loader")._ledger.held) == ["a"]


def test_a_released_model_does_not_wait_for_ever_for_its_old_worker(day: SimDaemon) -> None:
    """Quarantined, and its worker cannot be killed: an admin's load is told why within seconds."""
    day.habits["a"].lies = True
    latest(day).held = True
    day.world.actor("model:a").actor_ref.tell(model.Prove())
    day.world.run(10.0)
    assert quarantines(day)
    told: Inbox[caller.Reply] = Inbox()
    day.admission.tell(admission.LoadModel("a", told))
    day.world.run(11.0)
    assert day.state("a") == "unkillable"
    assert isinstance(told.messages[0], caller.Refused)
    day.habits["a"].lies = False
    latest(day).let_go()
    day.world.run(30.0)
    assert day.state("a") == "ready"


@pytest.mark.parametrize("seconds", [3.0, 60.0])
def test_a_limit_of_processes_is_no_crash_of_the_model(day: SimDaemon, seconds: float) -> None:
    """No process can be started for a while: a short one is waited for, a long one is told of within ten seconds;
    nobody is quarantined, and afterwards all is well."""
    day.poor_until = day.world.now + seconds
    latest(day).die()
    one = day.clients.ask("a")
    day.world.run(10.0)
    assert one.outcome is not None
    if seconds > 10.0:
        assert isinstance(one.outcome, client.Refused)
        assert f"could not be started: [Errno {errno.EAGAIN}]" in one.outcome.refusal.message
        assert day.state("a") == "backoff"
        assert facts(day)["retry_at"] > day.world.time()
        assert facts(day)["restarts"] == 1
    day.world.run(seconds + 35.0)
    assert day.state("a") == "ready"
    again = day.clients.ask("a")
    day.world.run(10.0)
    assert isinstance(again.outcome, client.Finished)


@pytest.mark.parametrize("moment", ["loading", "canary", "ready"])
def test_a_sleep_of_the_daemon_is_held_against_nobody(day: SimDaemon, moment: str) -> None:
    """All of it was stopped for an hour, in a load, in a canary, or while an idle model sang: nobody is killed."""
    if moment == "ready":
        day.world.actor("model:a").actor_ref.tell(model.Prove())
        day.world.run(0.1)
        assert day.world.actor("model:a")._canary._run is not None
    else:
        day.load("b")
        while day.state("b") != moment:
            day.world.run(0.01)
    day.world.oversleep(3600.0)
    day.world.run(30.0)
    assert {name: day.state(name) for name in ("a", "b")} == {
        "a": "ready",
        "b": "unloaded" if moment == "ready" else "ready",
    }
    assert all(worker.alive for worker in day.workers())
    shown = day.world.actor("journal")._facts["model:a" if moment == "ready" else "model:b"]
    assert shown["canary_seconds"] < 60.0
    assert not shown.get("degraded")
    latest(day).stand_still()
    day.world.actor("model:a").actor_ref.tell(model.Prove())
    day.world.run(100.0)
    assert len(day.launched["a"]) == 2, "a song that does not end is still the end of its worker"
