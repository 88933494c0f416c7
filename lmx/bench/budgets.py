"""The committed budgets, and whether what was measured keeps them."""

import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from lmx.bench.wire import BenchError

State = Literal["kept", "broken", "missing"]


class Budget(Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of one ratio, both inclusive."""

    at_least: float | None = None
    at_most: float | None = None

    def kept(self, value: float) -> bool:
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        bounds = (("≥", self.at_least), ("≤", self.at_most))
        return " ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)


class Verdict(Struct, frozen=True):
    """One budget and what became of it; `value` is None when its ratio was not measured."""

    ratio: str
    budget: Budget
    value: float | None

    @property
    def state(self) -> State:
        if self.value is None:
            return "missing"
        return "kept" if self.budget.kept(self.value) else "broken"

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.ratio} was not measured (budget {self.budget})"
        return f"{self.ratio} is {self.value:.3f} (budget {self.budget})"


def read(file: Path, known: Collection[str]) -> dict[str, Budget]:
    """`workload.ratio` → its budget. Raises BenchError for a file that is not as it should be, and unknown names."""
    try:
        tables = msgspec.convert(tomllib.loads(file.read_text()), dict[str, dict[str, Budget]])
    except (OSError, ValueError) as error:
        raise BenchError(f"{file}: {error}.") from None
    budgets = {f"{workload}.{name}": budget for workload, table in tables.items() for name, budget in table.items()}
    for name in budgets:
        if name not in known:
            raise BenchError(f"{file}: there is no ratio {name}.")
    return budgets


def judge(budgets: Mapping[str, Budget], ratios: Mapping[str, float]) -> Sequence[Verdict]:
    """A verdict for each budget. A ratio that was not measured does not keep it."""
    return [Verdict(name, budget, ratios.get(name)) for name, budget in budgets.items()]
