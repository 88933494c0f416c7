"""Servers as users start them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.server import Server

Serve = Callable[..., Server]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts servers; at the end each must exit with 0 on SIGTERM and leave no process behind."""
    servers: list[Server] = []

    def start(config: str = "", *arguments: str) -> Server:
        folder = tmp_path / str(len(servers))
        folder.mkdir()
        servers.append(Server(folder, config, arguments))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            assert server.stop() == 0, server.log[-10:]
