"""What every command needs: options that many have, the config, and how it says that it cannot go on."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lmx.config import Config

USAGE = 64

ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML file; default: ~/.lmx/config.toml, if any.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


class Stop(Exception):
    """The command cannot go on: one sentence for the user, and the exit code."""

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(message)
        self.code = code


def config(file: Path | None, flags: Mapping[str, object]) -> "Config":
    """The settings of `file` (None = the usual one), the environment and these flags. Raises Stop."""
    from lmx.config import ConfigError, load

    try:
        return load(file, os.environ, flags)
    except ConfigError as error:
        raise Stop(str(error)) from None


def own_url(config: "Config") -> str:
    """Where a server with this config is reached from here; one that listens everywhere, on loopback."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.server.host, config.server.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{config.server.port}"
