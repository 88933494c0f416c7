"""The ladder of memory pressure."""

from collections import deque
from collections.abc import Iterable
from random import Random

import pytest

from lmx.machines.base import Effect, TransitionNotAllowed
from lmx.machines.pressure import (
    FALLING,
    FROM,
    RISING,
    RUNGS,
    CloseConnections,
    PressureMachine,
    RefuseLoads,
    RefuseRequests,
    TrimCaches,
    climb,
)


class Ladder:
    """Feeds a machine as its actor does, and keeps what came of it."""

    def __init__(self) -> None:
        self.machine = PressureMachine()
        self.moves: list[str] = []
        self.effects: list[Effect] = []
        self._shares: deque[float] = deque(maxlen=FALLING)

    def see(self, percents: Iterable[float]) -> "Ladder":
        for percent in percents:
            self._shares.append(percent / 100)
            while (event := climb(rung=self.machine.current, shares=tuple(self._shares))) is not None:
                self.effects += self.machine.step(event, reason="")
                self.moves.append(self.machine.current)
        return self


def test_up_and_down_every_rung_is_stood_on_once() -> None:
    """0 → 100 → 0 %: four steps up, four down, each with its measure taken and taken back once."""
    ladder = Ladder().see([*range(101), *range(100, -1, -1)])
    assert ladder.moves == [*RUNGS[1:], *reversed(RUNGS[:-1])]
    assert ladder.effects == [
        TrimCaches(), RefuseLoads(True), RefuseRequests(True), CloseConnections(True),
        CloseConnections(False), RefuseRequests(False), RefuseLoads(False),
    ]  # fmt: skip


@pytest.mark.parametrize("rung", RUNGS[1:])
def test_a_rung_is_reached_at_its_share_and_left_three_points_below(rung: str) -> None:
    """85, 90, 95 and 98 %."""
    up = FROM[rung] * 100
    assert Ladder().see([up - 0.01] * 20).machine.current == RUNGS[RUNGS.index(rung) - 1]
    ladder = Ladder().see([up] * 20)
    assert ladder.machine.current == rung
    assert ladder.see([up - 2.99] * 20).machine.current == rung
    assert ladder.see([up - 3.01] * 20).machine.current == RUNGS[RUNGS.index(rung) - 1]


def test_a_jump_goes_over_all_rungs_at_once() -> None:
    """From nothing to everything with the sample that proves it, and back in the same way."""
    ladder = Ladder().see([0] * 9 + [100] * (RISING - 1))
    assert ladder.moves == []
    assert ladder.see([100]).moves == list(RUNGS[1:])
    assert ladder.see([0] * (FALLING - 1)).machine.current == "closing"
    assert ladder.see([0]).machine.current == "nominal"


def test_one_peak_or_dip_moves_nothing() -> None:
    """A single sample is no pressure and no relief."""
    assert Ladder().see([50, 50, 100, 50, 100, 100, 50]).moves == []
    assert Ladder().see([99, 99, 99, 0, 99, 0, 0, 0, 0, 99]).moves == list(RUNGS[1:])


@pytest.mark.parametrize("centre", [80, 81, 82, 83, 83.5, 84, 85, 86, 87, 88.5, 90, 93.5, 95, 96.5, 98])
def test_noise_does_not_make_it_flap(centre: float) -> None:
    """1,000 samples around any place with a deviation of one point: no rung is stood on twice."""
    for seed in range(20):
        random = Random(seed)
        ladder = Ladder().see(random.gauss(centre, 1.0) for _ in range(1000))
        assert len(ladder.moves) == len(set(ladder.moves)), (seed, ladder.moves)


@pytest.mark.parametrize(("rung", "event"), [("nominal", "fall"), ("closing", "rise")])
def test_the_ladder_has_ends(rung: str, event: str) -> None:
    """Below the first and above the last rung there is nothing."""
    with pytest.raises(TransitionNotAllowed):
        PressureMachine.revived(rung, {}).step(event)
    assert climb(rung=rung, shares=[0.0] * 9 if rung == "nominal" else [1.0] * 9) is None
