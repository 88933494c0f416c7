"""`lmx daemon install`, `uninstall` and `status`."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmx.usage import ConfigFile, Json, Stop, own_url
from lmx.usage import config as _config

if TYPE_CHECKING:
    from lmx.daemon import Manager

NOT_RUNNING = 3
"""Exit code of `status`, as `systemctl status` has it."""

commands = typer.Typer(help="Let launchd or systemd keep lmx running.", no_args_is_help=True)


@commands.command()
def install(
    config: ConfigFile = None,
    only_print: Annotated[bool, typer.Option("--print", help="Show what would be written; change nothing.")] = False,
) -> None:
    """Start lmx now, after a crash, and when you log in. A second time: with other settings."""
    from lmx import daemon
    from lmx.access import unguarded
    from lmx.config import FILE_VARIABLE, VARIABLES

    asked = _config(config, {})  # a mistake in it is told now, and not by a service that does not start
    if problem := unguarded(asked.server.host, asked.keys):
        raise Stop(problem)
    if unseen := sorted(VARIABLES.keys() & os.environ.keys()):
        raise Stop(f"The service will not see {', '.join(unseen)}: put that into the config file.")
    file = config or os.environ.get(FILE_VARIABLE)
    whole = Path(os.path.abspath(os.path.expanduser(file))) if file is not None else None
    with _manager(asked.server.drain_seconds) as manager:
        if only_print:
            print(f"# {manager.path}\n{manager.text(daemon.executable(), whole)}", end="")
            return
        daemon.install(manager, whole)
    print(f"lmx runs by {manager.path}.")
    if isinstance(manager, daemon.Systemd):
        print("`loginctl enable-linger` lets it start with the machine, before you log in.")


@commands.command()
def uninstall() -> None:
    """Stop lmx and let nobody start it again."""
    from lmx import daemon

    with _manager(daemon.DRAIN_SECONDS) as manager:
        was_there = daemon.uninstall(manager)
    print("lmx is stopped and uninstalled." if was_there else "lmx is not installed as a daemon.")


@commands.command()
def status(
    config: ConfigFile = None,
    url: Annotated[str, typer.Option("--url", help="Where the server is; default: as configured.")] = "",
    as_json: Json = False,
) -> int:
    """Ask the service manager and the server; exit code 3 when lmx does not answer."""
    from lmx import daemon

    where = url or own_url(_config(config, {}))
    with _manager(daemon.DRAIN_SECONDS) as manager:
        standing = manager.standing()
        installed = manager.path.exists()
    answer = daemon.readiness(where)
    told: dict[str, Any] = {
        "installed": str(manager.path) if installed else None,
        "manager": standing.detail,
        "pid": standing.pid,
        "url": where,
        "alive": answer is not None,
        "ready": bool(answer and answer.get("ready")),
        "reason": answer.get("reason", "") if answer else "Nobody answers.",
        "degraded": answer.get("degraded", []) if answer else [],
    }
    print(json.dumps(told) if as_json else "\n".join(f"{key:10} {_shown(value)}" for key, value in told.items()))
    return 0 if told["alive"] else NOT_RUNNING


def _shown(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case None | [] | "":
            return "-"
        case list():
            return " ".join(map(str, value))
        case _:
            return str(value)


@contextmanager
def _manager(drain_seconds: float) -> "Iterator[Manager]":
    """Of this machine; what goes wrong with it is one sentence."""
    from lmx import daemon

    try:
        yield daemon.manager(Path.home(), os.environ, drain_seconds=drain_seconds)
    except daemon.DaemonError as error:
        raise Stop(str(error), error.code) from None
