"""The first cause of a row of deaths."""

import structlog
from structlog.testing import LogCapture

from lmx.actors.deaths import WELL_SECONDS, Deaths
from lmx.actors.messages.journal import Fact


class Row:
    """Deaths, the facts that are shown, and what was logged."""

    def __init__(self) -> None:
        self.facts: dict[str, Fact] = {}
        self.lines = LogCapture()
        log = structlog.wrap_logger(None, processors=[self.lines], wrapper_class=structlog.stdlib.BoundLogger)
        self.deaths = Deaths("m", self._note, log)

    def _note(self, **facts: Fact) -> None:
        self.facts.update(facts)


def test_the_first_cause_is_logged_once_and_kept() -> None:
    """What follows from it changes nothing; after two minutes of health another first cause may come."""
    row = Row()
    row.deaths.died("oom", "The engine broke: out of memory")
    row.deaths.died("killed", "The worker was killed (SIGKILL).")
    row.deaths.healthy(WELL_SECONDS - 1)
    row.deaths.died("wedge", "The worker was stuck.")
    assert row.facts == {"first_cause": "oom: The engine broke: out of memory"}
    row.deaths.healthy(WELL_SECONDS)
    assert row.facts == {"first_cause": None}
    row.deaths.died("gpu", "The engine broke: CUDA error")
    assert row.facts == {"first_cause": "gpu: The engine broke: CUDA error"}
    assert [(line["event"], line["model"], line["cause"]) for line in row.lines.entries] == [
        ("worker_died_first", "m", "oom"),
        ("worker_died_first", "m", "gpu"),
    ]
