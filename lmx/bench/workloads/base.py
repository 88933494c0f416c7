"""What a workload is: something to do over HTTP, the same work for the bare loop, and the ratios of the two."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from lmx.bench.lab import Lab
from lmx.bench.sites import Site

Facts = dict[str, float]
"""What was measured in one round, by name; seconds unless the name says otherwise."""


@dataclass(frozen=True)
class Ratio:
    """One number without a unit that a workload yields; `better` is the direction of improvement."""

    meaning: str
    better: Literal["higher", "lower"] = "higher"
    ideal: float = 1.0
    """1, or 0 for what is only a cost."""

    def goodness(self, value: float) -> float:
        """1 = as good as the ideal, 0 = as bad as can be."""
        if self.better == "higher":
            return value
        return 1 / max(value, 0.01) if self.ideal else 1 / (1 + value)


class Workload(ABC):
    """Rounds of different servers and of the bare loop alternate, so that all of them see the same machine."""

    name: ClassVar[str]
    about: ClassVar[str]
    gives: ClassVar[Mapping[str, Ratio]]
    rounds: ClassVar[int] = 3
    peer_rounds: ClassVar[int] = 2
    """Others take part in so many of them only: they take long, and their ratios have no budgets."""
    only_lmx: ClassVar[bool] = False
    """It uses what only lmx has, or starts servers of its own."""
    needs_circle: ClassVar[bool] = False
    """It works with the models that the bench makes, and with no other."""

    @abstractmethod
    def measure(self, lab: Lab, site: Site, seed: str) -> Facts:
        """One round. Texts come from `seed`, so that every round is new to the server and alike for all servers."""

    def ideal(self, lab: Lab, facts: Facts) -> Facts:
        """What the bare loop needs for the work that `facts` tells of."""
        return {}

    @abstractmethod
    def ratios(self, facts: Facts, ideal: Facts) -> dict[str, float]:
        """All of `gives`, from one round."""
