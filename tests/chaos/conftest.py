"""Servers for faults."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.real.stage import Stage, config
from tests.support.server import Server


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """`stage(victim=SCRIPT, extra=TOML)`: a server whose two models are ready, or the victim in the state `begins`.
    `server` is what else a `Server` takes. It must exit with 0 at the end."""
    servers: list[Server] = []

    def start(
        victim: str = "step=0.01", extra: str = "", more: str = "", begins: str = "ready", **server: Any
    ) -> Stage:
        folder = tmp_path / str(len(servers))
        folder.mkdir()
        servers.append(Server(folder, config(victim, extra, more), **server))
        return Stage(servers[-1], begins)

    yield start
    for server in servers:
        if server.process.poll() is None:
            assert server.stop(60.0) == 0, server.log[-10:]
