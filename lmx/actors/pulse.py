"""Beats and probes of the worker in one model's seat, and the verdict on it."""

from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

from lmx.actors.base import House
from lmx.actors.messages import model
from lmx.actors.messages.ref import Ref
from lmx.actors.seat import Seat
from lmx.machines import frames, liveness
from lmx.machines.liveness import Patience, Signs, Verdict

P = ParamSpec("P")
R = TypeVar("R")

NO_BEAT = frames.Beat(0, busy=False)
HEALTHY = Verdict("healthy")
LIVING = ("warming", "canary", "ready", "draining")
"""States of a model whose worker answers probes."""
SEATED = (*LIVING, "loading", "unloading")
"""States of a model with a worker that nobody has killed yet."""
MOST_OF_A_BEAT = 2.0
"""Seconds that one beat may tell of: what is longer was spent asleep, not at work."""


class Decide(Protocol):
    def __call__(self, policy: Callable[P, R], *args: P.args, **inputs: P.kwargs) -> R: ...


class Pulse:
    """Of one worker after the other; used by the thread of their model's actor, whom it tells `PulseDue`."""

    def __init__(self, house: House, owner: Ref[model.Message], seat: Seat, patience: Patience, decide: Decide) -> None:
        self._house = house
        self._owner = owner
        self._seat = seat
        self._patience = patience
        self._decide = decide
        self._beat = NO_BEAT
        self._verdict = HEALTHY
        self._probe = 0
        self._probed_at: float | None = None
        self._standing = 0.0
        self.overslept = 0.0
        """Seconds of the monotonic clock in which the main process did not run, before the latest tick."""
        self._ticked_at = self._heard_at = self._beat_at = house.clock.monotonic()
        self._lagged = self._lag

    def begin(self) -> None:
        """A worker has taken the seat."""
        self._forget()
        self._beat, self._verdict, self._lagged = NO_BEAT, HEALTHY, self._lag
        self._set_timer()

    def hear(self, report: frames.Report) -> None:
        """Whatever the worker says is a sign of life."""
        now = self._house.clock.monotonic()
        match report:
            case frames.Beat():
                still = report.busy and report.steps == self._beat.steps
                self._standing = self._standing + min(now - self._beat_at, MOST_OF_A_BEAT) if still else 0.0
                self._beat, self._beat_at = report, now
            case frames.Probed(number) if number == self._probe:
                self._probed_at = None
        self._heard_at = now

    def tick(self, state: str) -> str:
        """Look at the worker of a model in `state`; once it is found stuck, a sentence that says so."""
        self._set_timer()
        if self._is_late():
            self._forget()
        if state not in SEATED:
            return ""
        signs, before = self._signs(state), self._verdict.health
        verdict = liveness.judge(signs=signs, patience=self._patience)
        if verdict != self._verdict:  # else it is no news
            self._verdict = self._decide(liveness.judge, signs=signs, patience=self._patience)
        if verdict.health == "suspect" and self._probed_at is None and state in LIVING:
            self._ask()
        newly = verdict.health == "stuck" and before != "stuck"
        return liveness.explain(signs=signs, verdict=verdict) if newly else ""

    def _set_timer(self) -> None:
        self._house.timers.after(self._patience.tick, self._owner, model.PulseDue(self._seat.number))

    def _ask(self) -> None:
        self._probe += 1
        self._probed_at = self._house.clock.monotonic()
        self._seat.send(frames.Probe(self._probe))

    def _signs(self, state: str) -> Signs:
        now = self._house.clock.monotonic()
        silent = now - self._heard_at
        return Signs(
            silent=silent,
            standing=self._standing,
            busy=self._beat.busy,
            patience=self._beat.patience,
            unanswered=None if self._probed_at is None else now - self._probed_at,
            condition=self._seat.condition() if silent > self._patience.silence else "running",
            loading=state not in LIVING,
        )

    def _is_late(self) -> bool:
        """Whether this tick came late: by the monotonic clock, or by the other one, which goes on in sleep."""
        clock, tick = self._house.clock, self._patience.tick
        before, lag, self._ticked_at, self._lagged = self._ticked_at, self._lagged, clock.monotonic(), self._lag
        late = self._ticked_at - before - tick
        self.overslept = late if late > self._patience.late else 0.0
        return max(late, self._lagged - lag) > self._patience.late

    @property
    def _lag(self) -> float:
        """Grows by the time that the machine sleeps, and by what is done to its clock."""
        return self._house.clock.time() - self._house.clock.monotonic()

    def _forget(self) -> None:
        """All that was held against the worker; a late answer to an old probe is none."""
        now = self._house.clock.monotonic()
        self._ticked_at = self._heard_at = self._beat_at = now
        self._standing = 0.0
        self._probe += 1
        self._probed_at = None
