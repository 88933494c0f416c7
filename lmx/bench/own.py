"""`lmx bench`: a model of the user's own, lmx against the bare loop of its library."""

import sys
from pathlib import Path

import msgspec
from rich.console import Console

from lmx.bench import picture, report
from lmx.bench.session import USERS, Session, chosen
from lmx.bench.wire import BenchError


def measure(model: Path, only: str, rounds: int, threads: int, out: Path | None, *, as_json: bool) -> None:
    """Print what was found; progress goes to stderr. Raises BenchError when lmx cannot do all of it."""
    try:
        there = model.exists()
    except OSError as error:
        raise BenchError(f"{model} cannot be read ({error.strerror}): check its permissions.") from error
    if not there:
        raise BenchError(f"{model} does not exist: give the path of a .gguf file or of an mlx-lm folder.")
    progress = Console(stderr=True, highlight=False)
    names = chosen(only, USERS)
    session = Session(
        lambda line: progress.print(line, markup=False), names, model=model, rounds=rounds, threads=threads
    )
    found = session.run()
    if as_json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        report.show(found, {}, Console(highlight=False))
    if out is not None:
        report.write_json(found, out / "bench.json")
        picture.write(found, out / "bench.svg")
    if faults := report.failed(found.measured):
        raise BenchError(faults[0])
