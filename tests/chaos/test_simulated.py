"""Hours of trouble in a simulated world: the invariants hold, all mends itself, and planted bugs are found."""

import os

import pytest

from lmx.actors.messages import model
from tests.chaos.simulated import night
from tests.chaos.simulated.bugs import BUGS, Plant
from tests.chaos.simulated.daemon import SimDaemon
from tests.chaos.simulated.hour import outcome, quiet

SEEDS = 200
TRIES = 12
"""Hours in which a planted bug must show."""
MISSED = 2
"""Bugs that may go unseen, of twenty."""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_hundred_hours_without_a_violation() -> None:
    """Each accepted request ends once and with its own text, no slot, ledger or quarantine is broken, and when the
    faults end every model answers within 300 s. Each line of what is found replays it."""
    outcomes = night.run(range(SEEDS), os.cpu_count() or 1)
    assert [one.line() for one in outcomes if one.violation] == []
    assert sum(one.deaths for one in outcomes) > 10 * SEEDS, "the hours were too quiet to prove anything"


def test_a_seed_is_the_same_hour_every_time() -> None:
    """Whatever happens in it hangs on the seed alone."""
    assert outcome(7) == outcome(7)


def found(plant: Plant) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        return any(outcome(seed).violation for seed in range(TRIES))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_planted_bugs_are_found() -> None:
    """A simulator that misses more than two of twenty bugs proves nothing by its silence."""
    missed = [plant.__name__ for plant in BUGS if not found(plant)]
    assert len(BUGS) == 20
    assert len(missed) <= MISSED, missed


def test_a_killed_worker_is_gone_before_the_next_one_starts() -> None:
    """An admin may release a model whose worker has not been reaped; that one's exit gives nothing of the next back."""
    quiet()
    daemon = SimDaemon(3)
    daemon.load("a")
    daemon.world.run(20.0)
    daemon.habits["a"].lies = True
    daemon.world.actor("model:a").actor_ref.tell(model.Prove())
    for _ in range(400):
        if daemon.state("a") == "quarantined":
            break
        daemon.world.run(0.005)
    daemon.habits["a"].lies = False
    assert not next(daemon.workers("a")).reaped
    daemon.load("a")
    daemon.world.run(20.0)
    assert daemon.state("a") == "ready"
    assert list(daemon.world.actor("loader")._ledger.held) == ["a"]
