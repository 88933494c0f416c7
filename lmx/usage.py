"""What every command needs: options that many have, the config, and how it says that it cannot go on."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from lmx.client import Client

if TYPE_CHECKING:
    from lmx.config import Config

USAGE = 64

ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML file; else LMX_CONFIG, ~/.lmx/config.toml.")]
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
    from lmx.access import authority

    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.server.host, config.server.host)
    return f"http://{authority(host, config.server.port)}"


def client(url: str, file: Path | None) -> Client:
    """Calls the server at `url` (empty = the one of the config `file`) with LMX_API_KEY, or else the config's keys.

    Those are sent to this machine only: another server's are not in our config. Raises Stop and ClientError.
    """
    from lmx.access import is_loopback
    from lmx.config import KEY_VARIABLE

    given = os.environ.get(KEY_VARIABLE, "")
    if url and (given or not is_loopback(urlsplit(url if "://" in url else f"http://{url}").hostname or "")):
        return Client(url, given, given)
    own = config(file, {})
    return Client(url or own_url(own), given or next(iter(own.keys.inference), ""), given or own.keys.admin)
