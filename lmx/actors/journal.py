"""Writes down every transition, counts it, and holds the latest view of every machine for whoever reads."""

from collections import deque
from typing import assert_never

import msgspec

from lmx.actors import metrics
from lmx.actors.base import Actor
from lmx.actors.messages import journal, supervisor
from lmx.actors.messages.ref import Ref

KEPT = 500
"""Transitions that a reader sees."""


class JournalActor(Actor[journal.Message]):
    def __init__(self, supervisor: Ref[supervisor.Message], store: Ref[journal.Record] | None = None) -> None:
        """`store` keeps every record on disk. What this actor knows survives a message that it cannot handle."""
        super().__init__("journal", supervisor)
        self._store = store
        self._views: dict[str, journal.MachineView] = {}
        self._facts: dict[str, dict[str, journal.Fact]] = {}
        self._transitions: deque[journal.Transition] = deque(maxlen=KEPT)

    def receive(self, message: journal.Message) -> None:
        match message:
            case journal.Transition():
                self._keep(message)
                self._record(message)
            case journal.Decided():
                self._keep(message)
            case journal.Noted(actor, facts):
                self._facts.setdefault(actor, {}).update(facts)
            case journal.Read(reply_to):
                reply_to.tell(self._board())
            case _:
                assert_never(message)

    def _keep(self, record: journal.Record) -> None:
        if self._store is not None:
            self._store.tell(record)

    def _record(self, moved: journal.Transition) -> None:
        """The board shows where machines are and how they came there; reactions without a move are only kept."""
        if moved.source == moved.target:
            return
        self._views[moved.actor] = journal.MachineView(
            actor=moved.actor,
            machine=moved.machine,
            state=moved.target,
            since=moved.at,
            legal=moved.legal,
            reason=moved.reason,
        )
        if not moved.source:
            return
        self._transitions.append(moved)
        metrics.TRANSITIONS.labels(moved.machine, moved.source, moved.event, moved.target).inc()
        self.log.info(
            "transition",
            actor=moved.actor,
            machine=moved.machine,
            source=moved.source,
            on=moved.event,
            target=moved.target,
            reason=moved.reason,
        )

    def _board(self) -> journal.Board:
        views = (
            msgspec.structs.replace(view, facts=dict(self._facts.get(view.actor, {}))) for view in self._views.values()
        )
        return journal.Board(tuple(views), tuple(self._transitions))
