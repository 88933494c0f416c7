"""When a worker counts as stuck: by two proofs, never by one."""

from itertools import product

import pytest

from lmx.machines import life
from lmx.machines.liveness import Patience, Signs, explain, judge
from lmx.machines.model import ModelMachine

PATIENCE = Patience()
STANDS = ("standing", "unanswered")


@pytest.mark.parametrize(
    ("signs", "health", "proofs"),
    [
        (Signs(silent=0.5), "healthy", ()),
        (Signs(silent=5.0), "healthy", ()),
        (Signs(silent=5.1), "suspect", ("silent",)),
        (Signs(silent=6.9, condition="stopped"), "suspect", ("silent",)),
        (Signs(silent=7.1, condition="stopped"), "stuck", ("silent", "stopped")),
        (Signs(silent=5.1, condition="gone"), "stuck", ("silent", "gone")),
        (Signs(silent=0.5, condition="gone"), "healthy", ()),
        (Signs(silent=5.1, unanswered=3.0), "suspect", ("silent",)),
        (Signs(silent=8.1, unanswered=3.1), "stuck", ("silent", "unanswered")),
        (Signs(silent=0.5, unanswered=3.1), "suspect", ("unanswered",)),
        (Signs(silent=0.5, unanswered=3.1, busy=True, standing=3.0), "healthy", ()),
        (Signs(silent=0.5, busy=True, standing=10.0), "healthy", ()),
        (Signs(silent=0.5, busy=True, standing=10.1), "suspect", ("standing",)),
        (Signs(silent=0.5, busy=True, standing=10.1, unanswered=3.1), "stuck", STANDS),
        (Signs(silent=0.5, busy=True, standing=50.0, unanswered=40.0, patience=60.0), "healthy", ()),
        (Signs(silent=0.5, busy=True, standing=61.0, unanswered=4.0, patience=60.0), "stuck", STANDS),
        (Signs(silent=30.0, unanswered=25.0, busy=True, patience=120.0), "suspect", ("silent",)),
        (Signs(silent=121.0, unanswered=115.0, busy=True, patience=120.0), "stuck", ("silent", "unanswered")),
        (Signs(silent=300.0, busy=True, loading=True), "suspect", ("silent",)),
        (Signs(silent=300.0, standing=300.0, unanswered=300.0, busy=True, loading=True), "suspect", ("silent",)),
        (Signs(silent=7.1, busy=True, loading=True, condition="stopped"), "stuck", ("silent", "stopped")),
        (Signs(silent=0.1, busy=True, standing=4000.0, patience=1e9), "suspect", ("standing",)),
    ],
)  # fmt: skip
def test_verdicts(signs: Signs, health: str, proofs: tuple[str, ...]) -> None:
    """Each proof at both sides of its figure; a step's own patience holds, and a load answers no probes."""
    verdict = judge(signs=signs, patience=PATIENCE)
    assert (verdict.health, verdict.proofs) == (health, proofs)


def test_one_proof_is_never_enough() -> None:
    """Over all combinations of signs: stuck is exactly what two proofs say, and every proof needs its own sign."""
    grid = product(
        (0.0, 6.0, 8.0), (0.0, 11.0, 61.0), (False, True), (0.0, 60.0), (None, 1.0, 4.0),
        ("running", "stopped", "gone"), (False, True),
    )  # fmt: skip
    for silent, standing, busy, patience, unanswered, condition, loading in grid:
        signs = Signs(
            silent=silent,
            standing=standing,
            busy=busy,
            patience=patience,
            unanswered=unanswered,
            condition=condition,  # type: ignore[arg-type]
            loading=loading,
        )
        verdict = judge(signs=signs, patience=PATIENCE)
        assert verdict.health == ("healthy", "suspect", "stuck")[min(2, len(verdict.proofs))]
        assert len(set(verdict.proofs)) == len(verdict.proofs)
        if silent == 0.0 and (unanswered is None or unanswered < 3.0):
            assert verdict.health != "stuck", signs
        if loading and condition == "running":
            assert verdict.health != "stuck", signs


def test_the_proofs_are_told_in_words() -> None:
    """Whoever reads of the death learns what was seen."""
    signs = Signs(silent=8.2, unanswered=3.4)
    text = explain(signs=signs, verdict=judge(signs=signs, patience=PATIENCE))
    assert text == "The worker was stuck: it said nothing for 8 s, and it did not answer a probe for 3 s."


@pytest.mark.parametrize("state", ["loading", "warming", "canary", "ready", "draining", "unloading"])
def test_a_verdict_kills_and_the_exit_that_follows_decides(state: str) -> None:
    """Wherever a worker sits, `wedged` has it killed with the verdict as the reason; what serves does so no more."""
    machine = ModelMachine(state)
    effects = machine.step("wedged", reason="It was stuck.")
    assert effects == ((life.StopTaking(),) if state == "ready" else ()) + (life.KillWorker("It was stuck."),)
    assert machine.current == ("draining" if state == "draining" else "killed")
