"""Memory, seen by a user: what is refused and why, and what is given back."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tests.support.server import Server

Serve = Callable[..., Server]


def chat(server: Server, model: str, **fields: Any) -> tuple[int, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **fields}
    request = urllib.request.Request(
        server.url + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_request_gives_the_memory_back(serve: Serve) -> None:
    """keep_alive 0: after the answer the worker's process is gone; the next request starts another one."""
    server = serve('guide = false\n[models.echo]\nbackend = "fake"\n').ready()
    worker = psutil.Process(server.worker("echo"))
    assert chat(server, "echo", keep_alive=0)[0] == 200
    worker.wait(10)
    assert chat(server, "echo")[0] == 200


def test_a_model_that_needs_more_than_there_is_is_refused_with_the_figures(serve: Serve, tmp_path: Path) -> None:
    """503 insufficient_memory, no worker is started, and the other model goes on."""
    config = (
        f'guide = false\n[models.echo]\nbackend = "fake"\n[models.huge]\npath = "{huge(tmp_path)}"\npreload = false\n'
    )
    server = serve(config).ready()
    status, body = chat(server, "huge")
    assert (status, body["error"]["code"]) == (503, "insufficient_memory")
    assert body["error"]["message"].startswith("It needs 10000")
    assert "held: echo 0." in body["error"]["message"]
    assert len(psutil.Process(server.pid).children()) == 1
    assert chat(server, "echo")[0] == 200


def huge(folder: Path) -> Path:
    """A GGUF file of 10 TB, on paper: its end is a hole."""
    source = Path(__file__).parents[2] / "lmx" / "guide" / "lmx-guide.gguf"
    file = folder / "huge.gguf"
    with file.open("wb") as out:
        out.write(source.read_bytes())
        out.truncate(10**13)
    return file
