"""Runs workloads in rounds in which servers and the bare loop take turns, and keeps what came of it."""

import time
from collections.abc import Callable, Sequence
from statistics import median

from msgspec import Struct

from lmx.bench.lab import Lab
from lmx.bench.sites import Site
from lmx.bench.wire import BenchError
from lmx.bench.workloads import Facts, Workload

Say = Callable[[str], None]


class Measured(Struct, frozen=True, kw_only=True):
    """One workload on one site. Medians of the rounds; `spread` is the lowest and highest ratio."""

    workload: str
    site: str
    ratios: dict[str, float]
    spread: dict[str, tuple[float, float]]
    facts: Facts
    ideal: Facts
    rounds: int
    fault: str = ""
    """Why there are no ratios."""


def run(lab: Lab, workload: Workload, others: Sequence[Site], rounds: int, say: Say) -> list[Measured]:
    """lmx first, and the others that this workload can be asked of. A site that fails is told, and left out."""
    places = [lab.main, *([] if workload.only_lmx else others)]
    found = [
        _Series(workload, site, rounds if site is lab.main else min(rounds, workload.peer_rounds)) for site in places
    ]
    for number in range(rounds):
        ideal: Facts | None = None
        seed = f"{time.time()} {workload.name} {number}"
        for series in found:
            if number < series.wanted and not series.fault:
                ideal = series.measure(lab, seed, ideal, say)
    return [series.result() for series in found]


class _Series:
    """The rounds of one workload on one site."""

    def __init__(self, workload: Workload, site: Site, wanted: int) -> None:
        self._workload = workload
        self._site = site
        self.wanted = wanted
        self.fault = ""
        self._facts: list[Facts] = []
        self._ideals: list[Facts] = []
        self._ratios: list[Facts] = []

    def measure(self, lab: Lab, seed: str, ideal: Facts | None, say: Say) -> Facts | None:
        """One round more; what the bare loop needed, measured now unless it was in this round already."""
        began = time.monotonic()
        try:
            facts = self._workload.measure(lab, self._site, seed)
            ideal = self._workload.ideal(lab, facts) if ideal is None else ideal
            ratios = self._workload.ratios(facts, ideal)
        except BenchError as error:
            self.fault = str(error)
            say(f"  {self._site.name}: {error}")
            return ideal
        for each, one in ((self._facts, facts), (self._ideals, ideal), (self._ratios, ratios)):
            each.append(one)
        words = ", ".join(f"{name} {value:.3f}" for name, value in ratios.items())
        say(f"  {len(self._facts)}/{self.wanted} {self._site.name}: {words} ({time.monotonic() - began:.1f} s)")
        return ideal

    def result(self) -> Measured:
        ratios = {} if self.fault else middle(self._ratios)
        bounds = {name: [each[name] for each in self._ratios] for name in ratios}
        return Measured(
            workload=self._workload.name,
            site=self._site.name,
            ratios=ratios,
            spread={name: (min(values), max(values)) for name, values in bounds.items()},
            facts=middle(self._facts),
            ideal=middle(self._ideals),
            rounds=len(self._facts),
            fault=self.fault,
        )


def middle(rounds: Sequence[Facts]) -> Facts:
    """The median of every number."""
    return {name: median(each[name] for each in rounds) for name in (rounds[0] if rounds else ())}
