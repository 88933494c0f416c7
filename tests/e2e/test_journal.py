"""What happened to a daemon can be read and gone through again when it is dead."""

import json
import os
import shutil
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lmx.cli import run
from tests.support.server import Server

Serve = Callable[..., Server]

CONFIG = """
guide = false
[models.victim]
backend = "fake"
script = "step=0.01"
"""
QUESTION = "xyzzy plugh"


def chat(text: str) -> dict[str, object]:
    return {"model": "victim", "messages": [{"role": "user", "content": text}]}


def kill_in_mid_request(server: Server) -> int:
    """The model's worker is killed while it answers, and the model comes back; the worker's process id."""
    asking = threading.Thread(target=lambda: server.post("/v1/chat/completions", chat(QUESTION * 50)))
    asking.start()
    server.until(lambda: server.machine("model:victim")["facts"]["in_flight"], lambda count: count >= 1)
    worker = server.worker("victim")
    os.kill(worker, signal.SIGKILL)
    server.until(lambda: server.machine("model:victim")["facts"].get("pid"), lambda pid: pid not in (None, worker))
    server.loaded("victim")
    asking.join(30)
    assert not asking.is_alive()
    return worker


def kill_until_quarantined(server: Server, killed: set[int]) -> None:
    """Every worker dies as soon as it is there."""

    def quarantined(machine: dict[str, Any]) -> bool:
        pid = machine["facts"].get("pid")
        if machine["state"] in ("loading", "warming", "canary", "ready") and pid not in (None, *killed):
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        return bool(machine["state"] == "quarantined")

    server.until(lambda: server.machine("model:victim"), quarantined, 60.0)


@pytest.fixture
def journal(serve: Serve, tmp_path: Path) -> Path:
    """Of a daemon whose worker was killed in mid-request, and then so often that its model was quarantined."""
    server = serve(CONFIG).ready()
    server.loaded("victim")
    kill_until_quarantined(server, {kill_in_mid_request(server)})
    assert server.stop() == 0
    return tmp_path / "0" / "state" / "journal.db"


@pytest.mark.slow
def test_a_crash_can_be_gone_through_again(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`lmx replay` agrees with every event and decision, and shows the crash; a changed row is named."""
    assert run(["replay", str(journal)]) == 0
    said = capsys.readouterr().out
    assert "would be the same today" in said
    [life] = [line for line in said.splitlines() if line.startswith("model:victim")]
    assert "quarantined" in life

    assert run(["journal", "--file", str(journal), "--actor", "model:victim", "-n", "1000", "--json"]) == 0
    entries = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    deaths = [entry for entry in entries if entry.get("event") == "worker_exited"]
    assert "SIGKILL" in deaths[0]["reason"]
    assert deaths[0]["source"] == "ready"
    assert deaths[0]["target"] == "backoff"
    assert QUESTION.encode() not in journal.read_bytes()

    copy = journal.with_name("copy.db")
    shutil.copy(journal, copy)
    with closing(sqlite3.connect(copy, isolation_level=None)) as db:
        db.execute("UPDATE entries SET target = 'ready' WHERE seq = ?", (deaths[0]["seq"],))
    assert run(["replay", str(copy)]) == 1
    said = capsys.readouterr().out
    assert f"Entry {deaths[0]['seq']} would not be the same today" in said
    assert 'target as recorded: "ready"' in said
    assert 'target today:       "backoff"' in said


def test_the_journal_is_readable_while_the_daemon_lives_and_after_sigkill(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over HTTP with a cursor, by the command, and when the daemon is gone without a word."""
    server = serve(CONFIG).ready()
    server.loaded("victim")
    page = server.until(
        lambda: server.get("/admin/journal?actor=model:victim&limit=20")[1],
        lambda page: page.get("entries") and page["entries"][-1].get("target") == "ready",
        2.0,
    )
    moves = [entry["target"] for entry in page["entries"] if entry["kind"] == "event"]
    assert moves[-3:] == ["warming", "canary", "ready"]
    status, later = server.get(f"/admin/journal?since={page['cursor']}&actor=model:victim")
    assert (status, later) == (200, {"entries": [], "cursor": page["cursor"]})
    assert server.get("/admin/journal?limit=many")[0] == 400
    server.process.kill()
    server.process.wait(10)
    file = tmp_path / "0" / "state" / "journal.db"
    assert run(["journal", "--file", str(file), "--actor", "model:victim", "-n", "1"]) == 0
    assert "canary → ready" in capsys.readouterr().out
    assert run(["replay", str(file)]) == 0
