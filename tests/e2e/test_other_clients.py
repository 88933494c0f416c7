"""Clients that pin an older openai, each in a process of their own environment, against the embedded model."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import Server

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv/clients/bin/python"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="scripts/test makes .venv/clients"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("clients")).ready()
    yield server
    assert server.stop() == 0


def told_by(name: str, server: Server) -> Any:
    """What a program of tests/clients prints."""
    done = subprocess.run(
        [str(PYTHON), str(ROOT / "tests/clients" / f"{name}.py"), server.url],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_litellm_maps_our_errors(server: Server) -> None:
    """A context overflow becomes its ContextWindowExceededError, which makes its users fall back to another model."""
    told = told_by("litellm_errors", server)
    assert told["answer"]
    assert told["streamed"] == told["answer"]
    assert (told["context"], told["max_tokens"]) == ("ContextWindowExceededError", "ContextWindowExceededError")
    assert (told["model"], told["value"]) == ("NotFoundError", "BadRequestError")


def test_langchain_gets_structured_output_and_embeddings(server: Server) -> None:
    """By schema and by a forced call, each valid for its pydantic model; embeddings of one length."""
    told = told_by("langchain_chat", server)
    for way in ("schema", "call"):
        assert told[way]["mood"] in ("good", "bad")
        assert isinstance(told[way]["stars"], int)
    assert told["embeddings"][0] == told["embeddings"][1] > 0
    assert told["difference"] < 1e-3
    assert told["streamed"]
