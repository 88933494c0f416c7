"""One simulated hour: a seed, the traffic, the faults, and then the rest in which all must mend."""

import logging
from functools import partial

import structlog

from tests.chaos.simulated import invariants
from tests.chaos.simulated.daemon import SimDaemon
from tests.chaos.simulated.faults import FAULTS

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


def quiet() -> None:
    """What the actors log of simulated faults is of no use to anybody."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
