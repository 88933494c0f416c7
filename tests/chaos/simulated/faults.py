"""What goes wrong in a simulated hour, and for how long."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from lmx.actors.messages import model
from tests.chaos.simulated.worker import SimWorker

if TYPE_CHECKING:
    from tests.chaos.simulated.daemon import SimDaemon

Fault = Callable[["SimDaemon"], None]


def _a_worker(daemon: "SimDaemon") -> SimWorker | None:
    alive = [worker for worker in daemon.workers() if worker.alive]
    return daemon.world.random.choice(alive) if alive else None


def _a_busy_worker(daemon: "SimDaemon") -> SimWorker | None:
    """One that has been asked for something just now."""
    worker = _a_worker(daemon)
    if worker is not None:
        for _ in range(daemon.world.random.randint(1, 6)):
            patience = daemon.world.random.choice((None, None, 1.0))
            daemon.clients.ask(worker.model, patience=patience)
    return worker


def dies(daemon: "SimDaemon") -> None:
    """While it writes for several."""
    if worker := _a_busy_worker(daemon):
        later = daemon.world.random.uniform(0.05, 2.0)
        cause = daemon.world.random.choice(("killed", "signal", "exit", "oom", "gpu"))
        daemon.world.later(later, partial(worker.die, cause, "It died."))


def dies_again_and_again(daemon: "SimDaemon") -> None:
    """Every worker of one model, as soon as it is there, for half a minute."""
    name = daemon.world.random.choice(daemon.models)
    for second in range(30):
        daemon.world.later(second, partial(_all_die, daemon, name))


def _all_die(daemon: "SimDaemon", name: str) -> None:
    for worker in daemon.workers(name):
        worker.die()


def sleeps_long(daemon: "SimDaemon") -> None:
    if worker := _a_busy_worker(daemon):
        worker.sleep()


def sleeps_five_seconds(daemon: "SimDaemon") -> None:
    """No reason to kill it."""
    worker = _a_worker(daemon)
    if worker and not worker.sleeping and not worker.standing:
        worker.sleep()
        daemon.spared.add(worker)
        daemon.world.later(5.0, worker.wake)
        daemon.world.later(15.0, lambda: daemon.spared.discard(worker))


def stands_still(daemon: "SimDaemon") -> None:
    if worker := _a_busy_worker(daemon):
        worker.stand_still()


def hangs_in_the_kernel(daemon: "SimDaemon") -> None:
    """For two minutes, whatever is done to it."""
    if worker := _a_busy_worker(daemon):
        worker.hold()
        daemon.world.later(120.0, worker.let_go)


def no_process_can_be_started(daemon: "SimDaemon") -> None:
    """For half a minute, while workers die."""
    daemon.poor_until = daemon.world.now + 30.0
    for _ in range(2):
        dies(daemon)


def the_daemon_sleeps(daemon: "SimDaemon") -> None:
    """With all of its workers: what was due meanwhile is done when it wakes."""
    daemon.world.oversleep(daemon.world.random.uniform(70.0, 700.0))


def babbles(daemon: "SimDaemon") -> None:
    if worker := _a_worker(daemon):
        worker.babble()


def load_fails(daemon: "SimDaemon") -> None:
    habits = daemon.habits[daemon.world.random.choice(daemon.models)]
    habits.load_fails = "The file is damaged."
    daemon.world.later(60.0, lambda: setattr(habits, "load_fails", ""))
    dies(daemon)


def dies_in_load(daemon: "SimDaemon") -> None:
    habits = daemon.habits[daemon.world.random.choice(daemon.models)]
    habits.dies_in_load = True
    daemon.world.later(20.0, lambda: setattr(habits, "dies_in_load", False))
    dies(daemon)


def lies(daemon: "SimDaemon") -> None:
    """One model's canary fails from its next load on."""
    habits = daemon.habits[daemon.world.random.choice(daemon.models)]
    habits.lies = True
    daemon.world.later(900.0, lambda: setattr(habits, "lies", False))
    dies(daemon)


def loads_slowly(daemon: "SimDaemon") -> None:
    habits = daemon.habits[daemon.world.random.choice(daemon.models)]
    habits.load_seconds = 120.0
    daemon.world.later(300.0, lambda: setattr(habits, "load_seconds", 2.0))


def memory_is_short(daemon: "SimDaemon") -> None:
    """Another program takes it for two minutes."""
    daemon.gauge.taken = daemon.world.random.uniform(0.5, 0.99) * daemon.gauge.total()
    daemon.world.later(120.0, lambda: setattr(daemon.gauge, "taken", 0.0))


def poison(daemon: "SimDaemon") -> None:
    """A request that kills whoever writes for it, among others."""
    name = daemon.world.random.choice(daemon.models)
    word = f"poison{daemon.world.delivered}"
    daemon.habits[name].deadly.add(word)
    daemon.clients.ask(name, name=word)
    for _ in range(3):
        daemon.clients.ask(name)


def an_actor_crashes(daemon: "SimDaemon") -> None:
    """Of those that may: a handler raises."""
    names = ["admission", "loader", *(f"model:{name}" for name in daemon.models)]
    actor = daemon.world.actor(daemon.world.random.choice(names))
    if daemon.world.now - daemon.crashed_at > 120.0:
        daemon.crashed_at = daemon.world.now
        actor.actor_ref.tell(Unheard())


def a_flood(daemon: "SimDaemon") -> None:
    """One client asks for more than anybody could serve."""
    name = daemon.world.random.choice(daemon.models)
    for _ in range(150):
        daemon.clients.ask(name, who="eve")


def an_admin_unloads(daemon: "SimDaemon") -> None:
    daemon.unload(daemon.world.random.choice(daemon.models))


def an_admin_loads(daemon: "SimDaemon") -> None:
    daemon.load(daemon.world.random.choice(daemon.models))


def an_admin_insists(daemon: "SimDaemon") -> None:
    """An idle model is found to lie, and is to load again before its worker is gone."""
    name = daemon.world.random.choice(daemon.models)
    habits = daemon.habits[name]
    habits.lies = True
    daemon.world.actor(f"model:{name}").actor_ref.tell(model.Prove())
    for moment in range(100):
        daemon.world.later(0.3 + moment * 0.03, partial(daemon.load, name))
    daemon.world.later(4.0, lambda: setattr(habits, "lies", False))


class Unheard:
    """A message that nobody knows."""


FAULTS: tuple[Fault, ...] = (
    dies, dies_again_and_again, sleeps_long, sleeps_five_seconds, stands_still, babbles, load_fails, dies_in_load,
    lies, loads_slowly, memory_is_short, poison, an_actor_crashes, a_flood, an_admin_unloads, an_admin_loads,
    an_admin_insists, hangs_in_the_kernel, no_process_can_be_started, the_daemon_sleeps,
)  # fmt: skip
