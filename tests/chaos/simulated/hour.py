"""One simulated hour: a seed, the traffic, the faults, and then the rest in which all must mend."""

import logging
from dataclasses import dataclass
from functools import partial

import structlog

from tests.chaos.simulated import invariants
from tests.chaos.simulated.daemon import SimDaemon
from tests.chaos.simulated.faults import FAULTS
from tests.chaos.simulated.world import Violation

HOUR = 3600.0
REQUESTS = 150
FEWEST, MOST = 5, 20


def simulate(seed: int) -> SimDaemon:
    """Raises Violation."""
    daemon = SimDaemon(seed)
    invariants.watch(daemon)
    random = daemon.world.random
    for name in daemon.models[:2]:
        daemon.load(name)
    for _ in range(random.randint(FEWEST, MOST)):
        fault = random.choice(FAULTS)
        daemon.world.later(random.uniform(10.0, HOUR), partial(fault, daemon))
    for _ in range(REQUESTS):
        patience = random.uniform(0.0, 20.0) if random.random() < 0.2 else None
        name = random.choice(daemon.models)
        at = random.uniform(0.0, HOUR)
        daemon.world.later(at, partial(daemon.clients.ask, name, patience=patience))
    daemon.world.run(HOUR)
    daemon.end_faults()
    invariants.recovered(daemon)
    return daemon


@dataclass(frozen=True)
class Outcome:
    """What came of one seed."""

    seed: int
    violation: str = ""
    deaths: int = 0
    requests: int = 0

    def line(self) -> str:
        """With the command that replays it."""
        if not self.violation:
            return f"seed {self.seed}: {self.requests} requests, {self.deaths} dead workers, no violation"
        return f"seed {self.seed}: {self.violation} (replay: scripts/chaos --seed {self.seed})"


def outcome(seed: int, *, loud: bool = False) -> Outcome:
    """`loud`: a violation is raised."""
    quiet()
    try:
        daemon = simulate(seed)
    except Violation as violation:
        if loud:
            raise
        return Outcome(seed, str(violation))
    deaths = sum(not worker.alive for worker in daemon.workers())
    return Outcome(seed, "", deaths, len(daemon.clients.asked))


def quiet() -> None:
    """What the actors log of simulated faults is of no use to anybody."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
