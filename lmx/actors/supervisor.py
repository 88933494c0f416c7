"""Counts the crashes of actors; too many in a while, and the daemon gives up instead of limping on."""

from collections.abc import Callable
from typing import assert_never

from lmx.actors import metrics
from lmx.actors.base import Actor
from lmx.actors.messages import supervisor
from lmx.actors.ports import Clock
from lmx.machines.restart import RestartBudget


class SupervisorActor(Actor[supervisor.Message]):
    def __init__(self, clock: Clock, escalate: Callable[[str], None]) -> None:
        """`escalate(reason)` ends the daemon; the daemon manager starts it again."""
        super().__init__("supervisor", self)
        self._clock = clock
        self._escalate = escalate
        self._budgets: dict[str, RestartBudget] = {}

    def tell(self, message: supervisor.Message) -> None:
        """A supervisor's own crash is an escalation: nobody stands above it but the daemon manager."""
        self._escalate(f"actor {message.actor} crashed: {message.error}")

    def receive(self, message: supervisor.Message) -> None:
        match message:
            case supervisor.Crashed(actor, error):
                self._count(actor, error)
            case supervisor.Lost(actor, error):
                self._escalate(f"actor {actor} could not start over: {error}")
            case _:
                assert_never(message)

    def _count(self, actor: str, error: str) -> None:
        metrics.ACTOR_CRASHES.labels(actor).inc()
        budget = self._budgets.setdefault(actor, RestartBudget(limit=3, window=60.0, patience=1000))
        now = self._clock.monotonic()
        if budget.spent(now):
            self._escalate(f"actor {actor} crashed too often: {error}")
        else:
            budget.take(now, 0.0)
