"""The daemon's own life."""

import pytest

from lmx.machines.base import Deadline, TransitionNotAllowed
from lmx.machines.server import (
    BROKEN,
    AskCrashLoop,
    DrainAdmission,
    Exit,
    Preload,
    ServerMachine,
    UnloadModels,
)


def serving(loads: bool = True) -> ServerMachine:
    machine = ServerMachine(drain_seconds=5.0)
    assert machine.step("start") == (AskCrashLoop(),)
    assert machine.step("recovered", loads=loads) == ((Preload(),) if loads else ())
    return machine


def test_a_stop_drains_unloads_and_exits_well() -> None:
    """One deadline for what is in flight, one for the models, then code 0."""
    machine = serving()
    assert machine.step("stop") == (DrainAdmission(),)
    assert machine.deadline() == Deadline(5.0, "timed_out")
    assert machine.step("drained") == (UnloadModels(),)
    assert machine.deadline() == Deadline(8.0, "timed_out")
    assert machine.step("unloaded") == (Exit(0),)


def test_whoever_asks_twice_waits_half_a_second_at_most() -> None:
    """The second stop aborts what runs, the third does not wait for that either."""
    machine = serving()
    machine.step("stop")
    assert machine.step("stop") == (UnloadModels(),)
    assert machine.deadline() == Deadline(0.5, "timed_out")
    assert machine.step("stop") == (Exit(0),)


def test_in_safe_mode_models_wait_for_its_end() -> None:
    """`allowed` preloads, once it serves."""
    machine = serving(loads=False)
    assert machine.step("allowed") == (Preload(),)
    assert machine.current == "serving"


@pytest.mark.parametrize("events", [(), ("stop",), ("stop", "drained")])
def test_an_escalation_is_final(events: tuple[str, ...]) -> None:
    """Code 70 at once, from wherever it was, and nothing that comes later changes it."""
    machine = serving()
    for event in events:
        machine.step(event)
    assert machine.step("escalated") == (Exit(BROKEN),)
    for event in ("stop", "unloaded", "timed_out"):
        with pytest.raises(TransitionNotAllowed):
            machine.step(event)
