"""What a run found: as a table, and as JSON for programs."""

import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import psutil
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from lmx import __version__
from lmx.bench.budgets import Budget
from lmx.bench.runner import Measured
from lmx.bench.workloads import WORKLOADS, Ratio

LMX = "lmx"


class Machine(Struct, frozen=True):
    """Where it was measured; `busy` is the share of all cores that others used before the first workload."""

    system: str
    processor: str
    cores: int
    memory_bytes: int
    busy: float


class Report(Struct, frozen=True, kw_only=True):
    version: str = __version__
    model: str
    when: str
    machine: Machine
    measured: tuple[Measured, ...]
    seconds: float

    def sites(self) -> list[str]:
        return list(dict.fromkeys(row.site for row in self.measured))

    def ratios(self, site: str = LMX) -> dict[str, float]:
        """`workload.ratio` → its value."""
        rows = [row for row in self.measured if row.site == site]
        return {f"{row.workload}.{name}": value for row in rows for name, value in row.ratios.items()}

    def spread(self) -> dict[str, tuple[float, float]]:
        """lmx's lowest and highest round of each ratio."""
        rows = [row for row in self.measured if row.site == LMX]
        return {f"{row.workload}.{name}": bounds for row in rows for name, bounds in row.spread.items()}


def machine() -> Machine:
    """Looks for one second how busy it is."""
    return Machine(
        f"{platform.system()} {platform.release()}",
        platform.processor() or platform.machine(),
        psutil.cpu_count(logical=False) or psutil.cpu_count() or 1,
        psutil.virtual_memory().total,
        psutil.cpu_percent(1.0) / 100,
    )


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def known() -> set[str]:
    """Every ratio there is."""
    gguf = {f"{name}.{ratio}" for name, kind in WORKLOADS.items() for ratio in kind.gives}
    return gguf | {f"mlx-{name}" for name in gguf}


def ratio(name: str) -> Ratio:
    """What `workload.ratio` stands for."""
    workload, _, which = name.removeprefix("mlx-").partition(".")
    return WORKLOADS[workload].gives[which]


def write_json(report: Report, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")


def show(report: Report, budgets: Mapping[str, Budget], console: Console) -> None:
    """Ratios of all sites, with lmx's lowest and highest round and its budget; then why there are gaps."""
    sites, spread = report.sites(), report.spread()
    table = Table("ratio", *sites, "rounds of lmx", "budget", "", box=None, pad_edge=False)
    for name in dict.fromkeys(name for site in sites for name in report.ratios(site)):
        cells = [_cell(report.ratios(site).get(name), budgets.get(name), site) for site in sites]
        low, high = spread.get(name, (0.0, 0.0))
        table.add_row(
            name, *cells, f"{low:.3f} … {high:.3f}", str(budgets.get(name, "")), f"{ratio(name).better} is better"
        )
    console.print(table)
    _show_facts(report, console)
    for row in report.measured:
        if row.fault:
            console.print(f"{row.workload} on {row.site}: {row.fault}", style="yellow", highlight=False)


def _cell(value: float | None, budget: Budget | None, site: str) -> str:
    if value is None:
        return "-"
    text = f"{value:.3f}"
    if budget is None or site != LMX:
        return text
    return f"[green]{text}[/]" if budget.kept(value) else f"[bold red]{text}[/]"


def _show_facts(report: Report, console: Console) -> None:
    """What lmx's ratios were made of."""
    table = Table("workload", "measured on lmx", "bare loop", box=None, pad_edge=False)
    for row in report.measured:
        if row.site == LMX and not row.fault:
            table.add_row(row.workload, _listed(row.facts), _listed(row.ideal))
    console.print(table)


def _listed(facts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in facts.items())


def failed(rows: Sequence[Measured]) -> list[str]:
    """Workloads that lmx did not get through."""
    return [f"{row.workload}: {row.fault}" for row in rows if row.site == LMX and row.fault]
