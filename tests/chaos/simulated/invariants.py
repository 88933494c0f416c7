"""What must hold after every step, and what must come true when nothing goes wrong any more."""

from tests.chaos.simulated.daemon import SHARE, SimDaemon
from tests.chaos.simulated.world import Violation

RECOVERY_SECONDS = 300.0


def watch(daemon: SimDaemon) -> None:
    """Check the ledger after every message that the loader had. That outcomes come once, and that every text is its
    own request's, is checked where clients hear them; slots, quarantine and wrong kills where workers are told."""

    def check(actor: str) -> None:
        if actor == "loader":
            ledger(daemon)

    daemon.world.after_each = check


def ledger(daemon: SimDaemon) -> None:
    """What is granted is never less than nothing, and never more than lmx's share."""
    held = daemon.world.actor("loader")._ledger.held
    if any(size < 0 for size in held.values()):
        raise Violation(f"the ledger is negative: {held}")
    if sum(held.values()) > daemon.gauge.total() * SHARE:
        raise Violation(f"the ledger is overdrawn: {held}")


def recovered(daemon: SimDaemon) -> None:
    """All faults are over: within 300 s every queue is empty and every model that is not quarantined answers."""
    daemon.world.run(RECOVERY_SECONDS)
    for one in daemon.clients.asked:
        if one.open:
            raise Violation(f"{one.name} of {one.model}, asked at {one.at:.1f} s, has no outcome: {one.events[-3:]}")
    _nothing_left(daemon)
    for name in daemon.models:
        if daemon.state(name) not in ("quarantined", "failed"):
            _answers(daemon, name)


def _nothing_left(daemon: SimDaemon) -> None:
    """No lease, no waiting sequence, no living worker that no model owns."""
    if left := daemon.world.actor("admission")._leases:
        raise Violation(f"admission still holds {left}")
    for name in daemon.models:
        if left := len(daemon.world.actor(f"model:{name}").sequences):
            raise Violation(f"{name} still holds {left} sequences")
        alive = [worker.pid for worker in daemon.workers(name) if worker.alive]
        if len(alive) > 1:
            raise Violation(f"{name} has {len(alive)} workers: {alive}")
        if bool(alive) != (name in daemon.world.actor("loader")._ledger.held):
            raise Violation(f"{name} is {daemon.state(name)} and has workers {alive}, which the ledger does not say")


def _answers(daemon: SimDaemon, name: str) -> None:
    one = daemon.clients.ask(name)
    daemon.world.run(60.0)
    if one.outcome is None or one.text != one.whole:
        raise Violation(f"{name} is {daemon.state(name)} and answers {one.outcome} after a minute without faults")
