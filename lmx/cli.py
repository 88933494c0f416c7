"""The `lmx` command. Every command imports what it needs itself, so that the others start fast."""

import json
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from lmx import __version__, chaos_cli, daemon_cli, journal_cli, usage
from lmx.client import Client, ClientError
from lmx.usage import USAGE, ConfigFile, Json, Stop
from lmx.usage import config as _config

if TYPE_CHECKING:
    from lmx.config import Config

INTERNAL = 70
BAD_DAYS = ("first_cause", "retry_at", "fewer_slots")
"""Columns of `lmx ps` that are there only when they say something."""

app = typer.Typer(
    help="An OpenAI-compatible inference server for your own machines.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(journal_cli.commands)
app.add_typer(daemon_cli.commands, name="daemon")
app.add_typer(chaos_cli.commands, name="chaos")

Url = Annotated[str, typer.Option("--url", help="Where the server is; default: as configured.")]
Model = Annotated[str, typer.Argument(help="Name of a model, as in `lmx ps`.")]


def main() -> NoReturn:
    """Entry point of `lmx` and `python -m lmx`."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; a mistake of the user is one sentence on stderr."""
    try:
        return app(args=arguments, prog_name="lmx", standalone_mode=False) or 0
    except typer.TyperException as error:
        message, code = error.format_message(), USAGE
    except (Stop, ClientError) as error:
        message, code = str(error), error.code
    except typer.Abort:
        message, code = "Stopped.", 1
    except Exception:  # noqa: BLE001 - the end of the program: a fault of ours gets its own exit code
        traceback.print_exc()
        message, code = "This is a fault of lmx itself.", INTERNAL
    if message:  # empty when typer has shown the help instead
        print(f"lmx: {message}", file=sys.stderr)
    return code


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"lmx {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command()
def serve(
    model: Annotated[list[str] | None, typer.Option(help="[NAME=]PATH of a .gguf file or mlx-lm folder.")] = None,
    config: ConfigFile = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 = any.")] = None,
    context: Annotated[int | None, typer.Option(help="Tokens of one sequence.")] = None,
    slots: Annotated[int | None, typer.Option(help="Sequences decoded at the same time.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads of a step.")] = None,
    prefill_chunk: Annotated[int | None, typer.Option(help="Prompt tokens of one step.")] = None,
    default_model: Annotated[str | None, typer.Option(help="Answers requests that name no model.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(help="auto, console or json.")] = None,
) -> int:
    """Serve models; without any, the embedded lmx-guide."""
    flags = {
        "--host": host,
        "--port": port,
        "--context": context,
        "--slots": slots,
        "--threads": threads,
        "--prefill-chunk": prefill_chunk,
        "--default-model": default_model,
        "--log-level": log_level,
        "--log-format": log_format,
    }
    return _serve(_config(config, flags), model or [])


def _serve(config: "Config", models: list[str]) -> int:
    from lmx.catalog import CatalogError, catalog

    try:
        specs = catalog(config, models)
    except CatalogError as error:
        raise Stop(str(error)) from None
    from lmx.app import StartError
    from lmx.app import serve as start

    try:
        return start(config, specs)
    except StartError as error:
        raise Stop(str(error), error.code) from None


@app.command()
def ps(config: ConfigFile = None, url: Url = "", as_json: Json = False) -> None:
    """Show the models and what they are doing."""
    machines = _client(url, config).machines()["machines"]
    models = [_summary(machine) for machine in machines if machine["actor"].startswith("model:")]
    if as_json:
        print(json.dumps(models))
        return
    shown = [name for name in models[0] if name not in BAD_DAYS or any(row[name] for row in models)] if models else []
    head = [name.replace("_", " ") for name in shown]
    for line in _aligned([head, *([_cell(name, row[name]) for name in shown] for row in models)]):
        print(line)


def _aligned(rows: list[list[str]]) -> Iterator[str]:
    """Columns side by side. A row is one line and none of it is cut: what is said goes through `grep`, too."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _summary(machine: Mapping[str, Any]) -> dict[str, Any]:
    facts = machine["facts"]
    barred = facts.get("quarantine") if machine["state"] == "quarantined" else None
    return {
        "model": machine["actor"].removeprefix("model:"),
        "state": machine["state"],
        "since": machine["since"],
        "backend": facts.get("backend"),
        "context": facts.get("context"),
        "in_flight": facts.get("in_flight"),
        "memory": facts.get("memory_bytes"),
        "prefix": facts.get("prefix"),
        "cached": facts.get("cache_hit_share"),
        "speculation": facts.get("speculation"),
        "first_cause": facts.get("first_cause"),
        "retry_at": facts.get("retry_at"),
        "fewer_slots": facts.get("fewer_slots"),
        "why": barred or facts.get("held_back") or machine["reason"],
    }


def _cell(name: str, value: Any) -> str:
    """As people read it."""
    match name:
        case _ if value is None:
            return ""
        case "since":
            return _ago(value)
        case "retry_at":
            return f"in {max(0, round(value - time.time()))} s"
        case "memory":
            return f"{value / 1e9:.1f} GB"
        case "cached":
            return f"{value:.0%}"
        case "speculation":  # the reason for its absence is long, and in the JSON
            return str(value).partition(":")[0]
        case _:
            return " ".join(str(value).split())


def _ago(unix_seconds: float) -> str:
    seconds = max(0, int(time.time() - unix_seconds))
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


@app.command()
def chat(
    model: Annotated[str, typer.Option(help="Default: the server's default model.")] = "",
    config: ConfigFile = None,
    url: Url = "",
) -> None:
    """Talk with a model in the terminal; from a pipe, ask one question."""
    from lmx.chat import converse

    client = _client(url, config)
    converse(client, model or client.models()[0])


@app.command()
def load(model: Model, config: ConfigFile = None, url: Url = "", as_json: Json = False) -> None:
    """Load a model, also one in quarantine, and wait until it is ready."""
    _report(_client(url, config).load(model), as_json)


@app.command()
def unload(model: Model, config: ConfigFile = None, url: Url = "", as_json: Json = False) -> None:
    """Unload a model when its running requests have ended."""
    _report(_client(url, config).unload(model), as_json)


@app.command()
def adapt(
    model: Model,
    adapters: Annotated[list[str] | None, typer.Argument(help="PATH[=SCALE] of LoRA adapters; default: none.")] = None,
    config: ConfigFile = None,
    url: Url = "",
    as_json: Json = False,
) -> None:
    """Run a model with other LoRA adapters; it is loaded again when its running requests have ended."""
    _report(_client(url, config).adapt(model, [_adapter(text) for text in adapters or ()]), as_json)


@app.command()
def swap(
    alias: Annotated[str, typer.Argument(help="Name of an alias.")],
    model: Model,
    config: ConfigFile = None,
    url: Url = "",
    as_json: Json = False,
) -> None:
    """Let an alias mean another model: that one is loaded and has answered before the old one goes."""
    answer = _client(url, config).swap(alias, model)
    print(json.dumps(answer) if as_json else f"{alias} means {answer['model']}.")


def _adapter(text: str) -> dict[str, Any]:
    """A path that exists may hold a `=` itself."""
    path, sign, scale = text.rpartition("=")
    if not sign or os.path.exists(os.path.expanduser(text)):  # noqa: PTH110 - Path.exists raises in others' folders
        path, scale = text, "1"
    try:
        number = float(scale)
    except ValueError:
        number = nan
    if not path or not isfinite(number):
        raise Stop(f"{text}: expected PATH or PATH=SCALE.")
    return {"path": os.path.abspath(os.path.expanduser(path)), "scale": number}


def _report(answer: Mapping[str, Any], as_json: bool) -> None:
    print(json.dumps(answer) if as_json else f"{answer['model']} is {answer['state']}.")


@app.command()
def bench(
    model: Annotated[Path, typer.Argument(help="A .gguf file or an mlx-lm folder.")],
    only: Annotated[str, typer.Option(help="Workloads, with commas between them; default: all.")] = "",
    rounds: Annotated[int, typer.Option(min=0, help="Rounds of each workload; 0 = as it finds right.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 = the number of physical cores.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for bench.json and bench.svg.")] = None,
    as_json: Json = False,
) -> None:
    """Measure a model on this machine: lmx over HTTP against the bare loop of its library."""
    from lmx.bench.own import measure
    from lmx.bench.wire import BenchError

    try:
        measure(model, only, rounds, threads, out, as_json=as_json)
    except BenchError as error:
        raise Stop(str(error)) from None


@app.command()
def diagram(
    machine: Annotated[str, typer.Argument(help="Its name.")],
    form: Annotated[Literal["mermaid", "dot", "table"], typer.Option("--format")] = "mermaid",
    state: Annotated[str | None, typer.Option(help="Mark this state as the one it is in.")] = None,
) -> None:
    """Draw a state machine: model, loader, admission, crash_loop, server, sequence, state_file, pressure or swap."""
    from lmx.machines.diagrams import NAMES, render

    if machine not in NAMES:
        raise Stop(f"There is no machine {machine}, expected one of {', '.join(NAMES)}.")
    try:
        print(render(machine, state, form))
    except ValueError as error:
        raise Stop(f"{error}.") from None


def _client(url: str, file: Path | None) -> Client:
    return usage.client(url, file)
