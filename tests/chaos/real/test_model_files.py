"""Faults of a model's own files, done to a real server with a real model; each ends with the epilogue."""

import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.real.stage import Stage
from tests.chaos.real.staged import first_token, staged
from tests.support import guide

PAPER = """
[models.paper]
path = "{path}"
backend = "{backend}"
context = 512
slots = 2
"""


def paper(acted: Stage) -> tuple[int, Any]:
    return acted.asks("paper", "What is lmx?", max_tokens=4)


@pytest.mark.slow
def test_a_model_file_that_is_replaced_or_cut_off(tmp_path: Path) -> None:
    """F44, F42: what is loaded serves on; the next load sees the new file: cut off it is refused with path and size."""
    file = tmp_path / "paper.gguf"
    shutil.copy(guide.GGUF, file)
    whole = file.read_bytes()
    with staged(tmp_path, PAPER.format(path=file, backend="llama_cpp")) as acted:
        server = acted.server
        before = paper(acted)[1]["choices"]
        half = tmp_path / "half"
        half.write_bytes(whole[: len(whole) // 2])
        half.replace(file)
        assert paper(acted)[1]["choices"] == before
        assert server.post("/admin/models/paper/unload", {})[0] == 200
        status, body = server.post("/admin/models/paper/load", {})
        assert status == 503
        assert f"{file} ({len(whole) // 2} bytes)" in body["error"]["message"]
        assert acted.asks("bystander")[0] == 200
        half.write_bytes(whole)
        half.replace(file)
        assert server.post("/admin/models/paper/load", {})[0] == 200
        assert paper(acted)[1]["choices"] == before
        acted.epilogue(first_causes=0)


@pytest.mark.slow
def test_a_model_file_that_is_cut_off_while_it_is_mapped(tmp_path: Path) -> None:
    """F43: its worker dies of SIGBUS, no other one does; the next one finds the file cut off, and that is told."""
    file = tmp_path / "paper.gguf"
    shutil.copy(guide.GGUF, file)
    with staged(tmp_path, PAPER.format(path=file, backend="llama_cpp")) as acted:
        server = acted.server
        os.truncate(file, 4096)
        status, body = paper(acted)
        assert (status, body["error"]["code"]) == (500, "worker_died")
        server.until(lambda: server.machine("model:paper")["state"], lambda state: state == "failed")
        assert f"{file} (4096 bytes)" in server.machine("model:paper")["reason"]
        [cause] = server.until(acted.first_causes, bool)
        assert (cause["model"], cause["cause"]) == ("paper", "signal")
        assert "SIGBUS" in cause["detail"]
        acted.before = replace(acted.before, children=acted.before.children - 1)
        acted.epilogue()


@pytest.mark.slow
def test_a_template_that_never_ends(tmp_path: Path) -> None:
    """F46: 400 within seconds, and the next request is served; nobody else waits."""
    folder = tmp_path / "paper"
    shutil.copytree(guide.MLX, folder)
    template = folder / "chat_template.jinja"
    loop = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    template.write_text("{% if 'loop' in messages[-1].content %}" + loop + "{% endif %}" + template.read_text())
    with staged(tmp_path, PAPER.format(path=folder, backend="mlx")) as acted:
        answers: list[tuple[float, int, Any]] = []

        def ask() -> None:
            began = time.monotonic()
            status, body = acted.asks("paper", "loop")
            answers.append((time.monotonic() - began, status, body))

        client = threading.Thread(target=ask)
        client.start()
        assert first_token(acted.server) < 0.5
        client.join()
        [(took, status, body)] = answers
        assert (status, body["error"]["param"]) == (400, "messages")
        assert "template" in body["error"]["message"]
        assert took < 20
        assert paper(acted)[0] == 200
        acted.epilogue(first_causes=0)
