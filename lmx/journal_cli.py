"""`lmx journal` and `lmx replay`: they read the file and need no server."""

import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from lmx.usage import ConfigFile, Json, Stop, config

commands = typer.Typer()


@commands.command()
def journal(
    since: Annotated[str, typer.Option(help="10m, 2h, 3d, or a date in ISO 8601.")] = "",
    actor: Annotated[str, typer.Option(help="Only of this one: model:NAME, loader, admission …")] = "",
    kind: Annotated[str, typer.Option(help="start, event, decision or dropped.")] = "",
    count: Annotated[int, typer.Option("-n", min=1, help="How many of the latest.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what comes.")] = False,
    file: Annotated[Path | None, typer.Option(help="Default: that of the configured state_dir.")] = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Show what happened and what was decided, with the reasons; needs no server."""
    from lmx.journal_reader import UnreadableError
    from lmx.journal_text import show, wanted

    try:
        asked = wanted(since, actor, kind, time.time())
        with suppress(KeyboardInterrupt):  # how a --follow ends
            show(file or _file(config_file), asked, count, follow=follow, as_json=as_json, out=_say)
    except (UnreadableError, ValueError) as error:
        raise Stop(str(error)) from None


@commands.command()
def replay(
    file: Annotated[Path | None, typer.Argument(help="A journal; default: that of the configured state_dir.")] = None,
    run: Annotated[int | None, typer.Option(min=1, help="Only this start of the daemon.")] = None,
    config_file: ConfigFile = None,
) -> int:
    """Step the machines and ask the policies again: 1 when they would decide otherwise today."""
    from lmx.journal_reader import UnreadableError
    from lmx.journal_text import as_report, run_again

    try:
        report = run_again(file or _file(config_file), run)
    except UnreadableError as error:
        raise Stop(str(error)) from None
    for line in as_report(report):
        _say(line)
    return 1 if report.divergence else 0


def _say(line: str) -> None:
    print(line)
    sys.stdout.flush()


def _file(config_file: Path | None) -> Path:
    from lmx.journal_file import NAME

    return Path(config(config_file, {}).state_dir) / NAME
