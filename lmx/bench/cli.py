"""`scripts/bench`: measures, shows, and judges."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lmx.bench import budgets as slo
from lmx.bench import picture, report
from lmx.bench.models import Quant
from lmx.bench.report import Report
from lmx.bench.session import NAMES, PEERS, QUICK, Session, chosen
from lmx.bench.wire import BenchError
from lmx.bench.workloads import WORKLOADS

BUDGETS = Path(__file__).parents[2] / "ops" / "slo-budgets.toml"
BROKEN, USAGE = 1, 64

console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def bench(
    only: Annotated[str, typer.Option(help="Workloads by name, with commas between them; default: all.")] = "",
    peers: Annotated[str, typer.Option(help="all, none, or names: llama_cpp.server, mlx_lm.server.")] = "all",
    url: Annotated[list[str] | None, typer.Option(help="[NAME=]URL of another OpenAI-compatible server.")] = None,
    shape: Annotated[str, typer.Option(help="Size of the GGUF model that is made: tiny, 135m or 600m.")] = "135m",
    quant: Annotated[Quant, typer.Option(help="How it is quantised.")] = "q8_0",
    rounds: Annotated[int, typer.Option(min=0, help="Rounds of each workload; 0 = as it finds right.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 = the number of physical cores.")] = 0,
    gate: Annotated[bool, typer.Option("--gate", help="Exit with 1 when a budget is not kept.")] = False,
    budgets: Annotated[Path, typer.Option(help="The file of budgets.")] = BUDGETS,
    quick: Annotated[bool, typer.Option("--quick", help="A tiny model, one round: does everything run?")] = False,
    out: Annotated[Path, typer.Option(help="Folder for bench.json and bench.svg.")] = Path("dist/bench"),
    listing: Annotated[bool, typer.Option("--list", help="Name the workloads and what they yield.")] = False,
) -> None:
    """Measure lmx over HTTP, in turns with bare loops and other servers on the same model files."""
    if listing:
        show_workloads()
        return
    names = chosen(only or ("" if not quick else ",".join(QUICK)), NAMES)
    known = slo.read(budgets, report.known())
    servers = chosen("" if peers == "all" else peers, (*PEERS, "none"))
    if quick:
        shape, quant, rounds = "tiny", "f16", 1
    found = Session(say, names, servers, url or (), shape, quant, None, rounds, threads).run()
    tell(found, known, out)
    if gate:
        judge({name: budget for name, budget in known.items() if name.partition(".")[0] in names}, found)


def show_workloads() -> None:
    for name in NAMES:
        workload = WORKLOADS[name.removeprefix("mlx-")]
        console.print(f"[bold]{name}[/]: {workload.about}")
        for ratio, meaning in workload.gives.items():
            console.print(f"    {name}.{ratio}: {meaning.meaning}; {meaning.better} is better")


def tell(found: Report, known: dict[str, slo.Budget], out: Path) -> None:
    """Print the tables, and write JSON and picture into the folder."""
    report.show(found, known, console)
    report.write_json(found, out / "bench.json")
    picture.write(found, out / "bench.svg")
    console.print(f"{out}/bench.json and {out}/bench.svg are written, after {found.seconds:.0f} s.")


def judge(known: dict[str, slo.Budget], found: Report) -> None:
    """Exit with 1 unless every budget is kept."""
    verdicts = [verdict for verdict in slo.judge(known, found.ratios()) if verdict.state != "kept"]
    for verdict in verdicts:
        console.print(f"[bold red]{verdict.state}[/]: {verdict}")
    if verdicts:
        raise typer.Exit(BROKEN)
    console.print(f"All {len(known)} budgets are kept.")


def say(line: str) -> None:
    console.print(line, markup=False)


def main() -> None:
    try:
        app(prog_name="scripts/bench")
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(USAGE)
