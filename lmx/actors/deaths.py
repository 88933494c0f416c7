"""The first cause of a row of deaths: what the later ones follow from, so it is kept until the model is well again."""

from lmx.actors.base import Log
from lmx.actors.facts import Note
from lmx.actors.messages.model import Cause

WELL_SECONDS = 120.0
"""A worker that has served for so long does not die of what the one before it died of."""


class Deaths:
    """Of one model's workers."""

    def __init__(self, model: str, note: Note, log: Log) -> None:
        self._model = model
        self._note = note
        self._log = log
        self._first = ""

    def died(self, cause: Cause, detail: str) -> None:
        """Nobody wanted it to."""
        if not self._first:
            self._first = f"{cause}: {detail}"
            self._log.warning("worker_died_first", model=self._model, cause=cause, detail=detail)
            self._note(first_cause=self._first)

    def healthy(self, seconds: float) -> None:
        """The present worker has served for so long."""
        if self._first and seconds >= WELL_SECONDS:
            self._first = ""
            self._note(first_cause=None)
