"""`lmx chaos`: break something of a running server, to see that it mends itself."""

import json
from typing import Annotated

import typer

from lmx.usage import ConfigFile, Json, client

commands = typer.Typer(
    help="Break something of a running server on purpose; its config must have chaos.enabled = true.",
    no_args_is_help=True,
)

Model = Annotated[str, typer.Argument(help="Name of a model, as in `lmx ps`.")]
Url = Annotated[str, typer.Option("--url", help="Where the server is; default: as configured.")]


@commands.command()
def kill_worker(model: Model, config: ConfigFile = None, url: Url = "", as_json: Json = False) -> None:
    """SIGKILL a model's worker, as an OOM killer does."""
    _act("kill-worker", model, url, config, as_json)


@commands.command()
def stop_worker(model: Model, config: ConfigFile = None, url: Url = "", as_json: Json = False) -> None:
    """SIGSTOP a model's worker: it hangs."""
    _act("stop-worker", model, url, config, as_json)


@commands.command()
def continue_worker(model: Model, config: ConfigFile = None, url: Url = "", as_json: Json = False) -> None:
    """SIGCONT a worker that was stopped."""
    _act("continue-worker", model, url, config, as_json)


@commands.command()
def crash_actor(
    name: Annotated[str, typer.Argument(help="admission, loader, model:NAME …")],
    config: ConfigFile = None,
    url: Url = "",
    as_json: Json = False,
) -> None:
    """Tell an actor what it does not know, so that its handler raises."""
    _act("crash-actor", name, url, config, as_json)


@commands.command()
def block_loop(
    seconds: Annotated[float, typer.Argument(help="Longer than watchdog.seconds ends the server.")],
    config: ConfigFile = None,
    url: Url = "",
    as_json: Json = False,
) -> None:
    """Let the event loop stand still."""
    _act("block-loop", f"{seconds:g}", url, config, as_json)


@commands.command()
def memory(
    share: Annotated[float, typer.Argument(help="0.97 = 97 % are used; 0 = the truth again.")],
    config: ConfigFile = None,
    url: Url = "",
    as_json: Json = False,
) -> None:
    """Pretend that so much of the machine's memory is used."""
    _act("memory", f"{share:g}", url, config, as_json)


def _act(what: str, of: str, url: str, config: ConfigFile, as_json: bool) -> None:
    answer = client(url, config).chaos(what, of)
    print(json.dumps(answer) if as_json else answer["done"])
