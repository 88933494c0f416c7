"""Stages on servers that are started in another way, or have one model more."""

import http.client
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.chaos.real.stage import Stage, config
from tests.support.server import Server


@contextmanager
def staged(folder: Path, models: str = "", **options: Any) -> Iterator[Stage]:
    """A stage on a server that is started in another way, or has one more model; it must exit with 0."""
    server = Server(folder, config() + models, **options)
    try:
        if models:
            server.listen().loaded("paper")
        yield Stage(server)
        assert server.stop(60.0) == 0, server.log[-10:]
    finally:
        server.process.kill()
        server.end()


def first_token(server: Server) -> float:
    """Seconds from a request to its first byte, on a connection that is there already."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=20)
    body = json.dumps({"model": "bystander", "prompt": "x", "max_tokens": 1})
    taken = []
    for _ in range(40):
        began = time.monotonic()
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        with connection.getresponse() as answer:
            assert answer.status == 200
            taken.append(time.monotonic() - began)
            answer.read()
    connection.close()
    return statistics.median(taken)
