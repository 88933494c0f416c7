"""Beats and probes by a clock that tests move; and a real worker whose engine stands still."""

import heapq
import os
import signal
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from lmx.actors.base import House
from lmx.actors.messages import client, journal, model
from lmx.actors.pulse import Pulse
from lmx.actors.seat import Seat
from lmx.machines import frames
from lmx.machines.liveness import Condition, Patience
from tests.support.house import OUTCOMES, ask, fake
from tests.support.inbox import Inbox

Start = Any
SEEDS = range(100)


class Stage:
    """One worker and its pulse in a world where time passes by itself: what is due is done, in order."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now, self.wall_ahead = 1000.0, 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.stopped = self.wedged = False
        self.busy, self.steps, self.patience = False, 0, 10.0
        self.told: list[tuple[float, str]] = []
        self.state = "ready"
        self.journal: Inbox[journal.Message] = Inbox()
        self._kept: list[frames.Command] = []
        house = House(self.journal, Inbox(), Inbox(), self, self)
        self.seat = Seat(self)
        self.pulse = Pulse(house, Inbox(), self.seat, Patience(), self._decide)
        self.seat.take(Inbox())
        self.tick_late = 0.0
        self.pulse.begin()
        self.later(self.random.random(), self._beat)

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now + self.wall_ahead

    def after(self, seconds: float, ref: object, message: object) -> None:
        assert isinstance(message, model.PulseDue)
        late, self.tick_late = self.tick_late, 0.0
        self.later(seconds + self.random.random() * 0.05 + late, self._tick)

    def launch(self, number: int, owner: object) -> "Stage":
        return self

    pid = 1

    def send(self, command: frames.Command) -> None:
        self._kept.append(command)
        self.later(0.01, self._answer)

    def kill(self) -> None:
        self.told.append((self.now, "killed"))

    def condition(self) -> Condition:
        return "stopped" if self.stopped else "running"

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._due, (self.now + seconds, self._count, act))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._due and self._due[0][0] <= end:
            self.now, _, act = heapq.heappop(self._due)
            act()
        self.now = end

    def stop(self) -> None:
        self.stopped = True

    def go_on(self) -> None:
        """SIGCONT: the beat that was due is sent at once, and what was asked is answered."""
        self.stopped = False
        self._say_beat()
        self._answer()

    @property
    def verdicts(self) -> list[float]:
        return [at for at, text in self.told if text]

    def _decide(self, policy: Any, *args: Any, **inputs: Any) -> Any:
        outcome = policy(*args, **inputs)
        self.journal.tell(journal.Decided(actor="model:m", policy="judge", inputs=inputs, outcome=outcome, at=self.now))
        return outcome

    def _tick(self) -> None:
        if text := self.pulse.tick(self.state):
            self.told.append((self.now, text))

    def _beat(self) -> None:
        if not self.stopped:
            self._say_beat()
        self.later(1.0 + self.random.random() * 0.05, self._beat)

    def _say_beat(self) -> None:
        self.steps += self.busy and not self.wedged
        self.pulse.hear(frames.Beat(self.steps, self.busy, self.patience))

    def _answer(self) -> None:
        if not self.stopped and not self.wedged:
            for command in self._kept:
                assert isinstance(command, frames.Probe)
                self.pulse.hear(frames.Probed(command.number))
            self._kept.clear()


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("state", ["loading", "ready"])
def test_a_stopped_worker_is_found_within_6_to_12_seconds(state: str, busy: bool) -> None:
    """SIGSTOP, at any moment between beats and ticks."""
    for seed in SEEDS:
        stage = Stage(seed)
        stage.state, stage.busy = state, busy
        stage.run(3 + stage.random.random() * 2)
        stopped_at = stage.now
        stage.stop()
        stage.run(20)
        assert len(stage.verdicts) == 1, seed
        assert 6.0 <= stage.verdicts[0] - stopped_at <= 12.0, seed
        assert "stopped it" in stage.told[0][1]


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("state", ["loading", "ready"])
def test_a_stop_of_five_seconds_never_kills(state: str, busy: bool) -> None:
    """SIGSTOP, and SIGCONT 5 s later, again and again: nothing happens, and the journal is not filled."""
    for seed in SEEDS:
        stage = Stage(seed)
        stage.state, stage.busy = state, busy
        for _ in range(5):
            stage.run(1 + stage.random.random() * 2)
            stage.stop()
            stage.run(5.0)
            stage.go_on()
        stage.run(20)
        assert stage.verdicts == [], seed
        assert len(stage.journal.messages) <= 10


def test_a_stop_in_the_middle_of_a_long_step_is_not_held_against_it() -> None:
    """The time in which the worker was stopped is not time in which its engine stood still."""
    for seed in SEEDS:
        stage = Stage(seed)
        stage.busy = stage.wedged = True  # a step of 8 s
        stage.run(4)
        stage.stop()
        stage.run(5)
        stage.go_on()
        stage.run(4)
        stage.wedged = False
        stage._answer()
        stage.run(20)
        assert stage.verdicts == [], seed


def test_an_engine_that_stands_still_is_found_although_the_worker_beats() -> None:
    """After its patience a probe is sent, and 3 s later it is stuck; not before."""
    for seed in SEEDS:
        stage = Stage(seed)
        stage.busy, stage.patience = True, 20.0
        stage.run(5)
        wedged_at = stage.now
        stage.wedged = True
        stage.run(60)
        assert len(stage.verdicts) == 1
        assert 22.0 <= stage.verdicts[0] - wedged_at <= 28.0, seed  # the latest step was up to 1 s before
        assert stage.told[0][1].startswith("The worker was stuck: its engine stood still for 2")


def test_a_main_process_that_did_not_run_holds_nothing_against_its_workers() -> None:
    """A tick that is more than 2 s late, or a wall clock that ran on, as in sleep: all is forgotten."""
    for seed in SEEDS:
        stage = Stage(seed)
        stage.run(3 + stage.random.random())
        stage.stop()
        stage.run(5.5)
        stage.wall_ahead += 8 * 3600.0
        stage.run(5.0)
        assert stage.verdicts == [], seed
        stage.run(8.0)
        assert len(stage.verdicts) == 1, seed

        stage = Stage(seed)
        stage.run(3 + stage.random.random())
        stage.tick_late = 30.0
        stage.run(1.1)
        stage.stop()
        stage.run(31.0)
        assert stage.verdicts == [], seed


def test_a_healthy_worker_leaves_no_trace() -> None:
    """An hour at work and at rest: no decision is journalled, no probe is sent, nothing is told."""
    stage = Stage(1)
    for _ in range(60):
        stage.busy = not stage.busy
        stage.run(60)
    assert (stage.journal.messages, stage.told, stage._kept) == ([], [], [])


QUICK = Patience(tick=0.1, silence=3.0, stopped=3.5, answer=0.5, step=2.0, longest_step=2.0)


def test_a_real_engine_that_hangs_is_killed_and_comes_back(start: Start) -> None:
    """Its worker beats on; the request that hangs is ended or goes on, and the cause is told as it is: a wedge."""
    house = start(fake("m", "stall=token:30"), patience=QUICK)
    house.load("m")
    _, sink = house.submit("m", ask("x" * 60))
    view = house.until(lambda: house.view("model:m"), lambda view: "last_exit" in view.facts)
    assert "its engine stood still for" in str(view.facts["last_exit"])
    assert "did not answer a probe" in str(view.facts["last_exit"])
    assert str(view.facts["first_cause"]).startswith("wedge: The worker was stuck: ")
    house.until(lambda: house.path("model:m"), lambda path: path.count("loading") >= 2)
    assert isinstance(sink.wait_for(OUTCOMES, 30.0), client.Failed)


def test_a_real_worker_that_is_stopped_is_killed_while_it_loads(start: Start) -> None:
    """A load answers no probes and may take its time, but the operating system knows that it was stopped."""
    house = start(fake("m", "load=60"), patience=QUICK)
    house.submit("m", ask("hello"))
    house.await_state("model:m", "loading")
    pid = house.until(lambda: house.view("model:m").facts.get("pid"), lambda pid: pid is not None)
    os.kill(pid, signal.SIGSTOP)
    view = house.until(lambda: house.view("model:m"), lambda view: "last_exit" in view.facts)
    assert "the operating system has stopped it" in str(view.facts["last_exit"])


def test_the_first_cause_of_a_row_stays(start: Start) -> None:
    """What killed the first worker is shown beside what killed the latest, until the model has been well for long."""
    house = start(fake("m", "step=0.01"))
    house.load("m")
    first = house.pid("m")
    os.kill(first, signal.SIGSEGV)
    house.until(lambda: house.path("model:m"), lambda path: path.count("ready") == 2)
    os.kill(house.pid("m"), signal.SIGKILL)
    house.until(lambda: house.path("model:m"), lambda path: path.count("ready") == 3)
    facts = house.view("model:m").facts
    assert facts["first_cause"] == "signal: The worker died of SIGSEGV."
    assert facts["last_exit"] == "The worker was killed (SIGKILL)."
    assert facts["retry_at"] is None
