"""What a daemon makes of the one before it, and of what it finds: ports, folders, disks, surroundings."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import Server, remembered

THREE = """
guide = false
[models.early]
backend = "fake"
[models.late]
backend = "fake"
preload = false
[models.later]
backend = "fake"
preload = false
[models.unused]
backend = "fake"
preload = false
"""
ONE = """
guide = false
[models.echo]
backend = "fake"
"""
FILE = "runtime-state.json"
Start = Callable[..., Server]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Starts servers one after the other in the same folder; none survives the test."""
    servers: list[Server] = []

    def begin(config: str = ONE, *arguments: str, shell: str = "") -> Server:
        servers.append(Server(folder, config, arguments, shell))
        return servers[-1]

    yield begin
    for server in servers:
        server.process.kill()
        server.end()


def kill(server: Server) -> None:
    os.kill(server.pid, signal.SIGKILL)
    server.process.wait(5)


def facts(server: Server, actor: str) -> dict[str, Any]:
    found: dict[str, Any] = server.machine(actor)["facts"]
    return found


def loaded(server: Server) -> list[str]:
    """Models in the order of their loads."""
    moves = server.get("/admin/machines")[1]["transitions"]
    return [m["actor"].removeprefix("model:") for m in moves if m["machine"] == "model" and m["target"] == "loading"]


def test_after_a_kill_what_was_loaded_comes_back_in_its_order(start: Start, folder: Path) -> None:
    """One after the other: first what the config wants, then what users had loaded, and nothing else."""
    server = start(THREE).ready()
    for model in ("later", "late"):
        assert server.post("/v1/completions", {"model": model, "prompt": "x"})[0] == 200
    server.until(lambda: remembered(folder)["loaded"], lambda names: names == ["early", "later", "late"])
    kill(server)
    server = start(THREE).listen()
    server.loaded("late")
    assert loaded(server) == ["early", "later", "late"]
    moves = server.get("/admin/machines")[1]["transitions"]
    kinds = [m["target"] for m in moves if m["machine"] == "model" and m["target"] in ("loading", "ready")]
    assert kinds == ["loading", "ready"] * 3
    assert server.machine("model:unused")["state"] == "unloaded"
    assert server.stop() == 0


def test_after_a_clean_stop_only_the_config_counts(start: Start, folder: Path) -> None:
    """Whoever stops it on purpose starts afresh; what an admin unloaded does not come back either."""
    server = start(THREE).ready()
    assert server.post("/v1/completions", {"model": "late", "prompt": "x"})[0] == 200
    assert server.stop() == 0
    assert remembered(folder) | {"loaded": [], "starts": [], "latest": ""} == remembered(folder)
    assert remembered(folder)["stopped"] == pytest.approx(time.time(), abs=10)
    assert (folder / "state" / FILE).stat().st_mode & 0o777 == 0o600
    server = start(THREE).ready()
    assert loaded(server) == ["early"]
    assert server.post("/admin/models/early/unload", {})[0] == 200
    server.until(lambda: remembered(folder)["loaded"], lambda names: names == [])
    assert server.stop() == 0


def test_three_unclean_starts_end_in_safe_mode(start: Start) -> None:
    """It serves its admin pages and loads nothing by itself, says why everywhere; an admin still can, and ends it."""
    for _ in range(2):
        kill(start().ready())
    server = start().listen()
    server.until(lambda: server.machine("crash_loop")["state"], lambda state: state == "safe_mode")
    reason = server.machine("crash_loop")["reason"]
    assert "3 times" in reason
    assert facts(server, "model:echo")["held_back"] == facts(server, "loader")["safe_mode"] == reason
    assert server.get("/admin/models")[1]["models"][0]["facts"]["held_back"] == reason
    command = [sys.executable, "-m", "lmx", "ps", "--json", "--url", server.url]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    assert json.loads(shown)[0]["why"] == reason
    assert server.get("/readyz")[0] == 503
    status, body = server.post("/v1/completions", {"model": "echo", "prompt": "x"})
    assert (status, body["error"]["code"]) == (503, "safe_mode")
    assert server.post("/admin/models/echo/load", {})[0] == 200
    assert facts(server, "model:echo")["held_back"] is None
    assert server.post("/v1/completions", {"model": "echo", "prompt": "x"})[0] == 200
    assert server.post("/admin/safe-mode/release", {}) == (200, {"state": "watching"})
    assert server.stop() == 0


def test_when_safe_mode_ends_the_models_load(start: Start) -> None:
    """Nobody has to ask for each of them."""
    for _ in range(2):
        kill(start().ready())
    server = start().listen()
    server.until(lambda: server.machine("crash_loop")["state"], lambda state: state == "safe_mode")
    assert server.post("/admin/safe-mode/release", {}) == (200, {"state": "watching"})
    server.loaded("echo")
    assert server.stop() == 0


def test_a_damaged_state_is_moved_aside_and_said(start: Start, folder: Path) -> None:
    """The previous generation is used; log and board tell what was wrong."""
    server = start().ready()
    kill(server)
    (folder / "state" / FILE).write_bytes(b"\0" * 300)
    server = start().ready()
    assert "previous generation" in facts(server, "state")["state_recovered"]
    assert any("state_recovered" in line for line in server.log)
    assert len(list((folder / "state").glob(f"{FILE}.bad-*"))) == 1
    assert server.stop() == 0


def test_the_strict_do_not_start_without_their_past(start: Start, folder: Path) -> None:
    """Exit code 71, again and again, one sentence, and the files stay where they are."""
    for name in (FILE, f"{FILE}.1"):
        (folder / "state" / name).write_bytes(b"nonsense")
    for _ in range(2):
        server = start("strict_state = true\n" + ONE)
        assert server.end() == 71
        assert "damaged" in server.log[-1]
        assert "Traceback" not in "".join(server.log)
    server = start().ready()
    assert server.stop() == 0


@pytest.fixture
def import_seconds() -> float:
    """What it takes on this machine, now, to have the code at all: on a busy one two seconds are nothing."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import lmx.app, lmx.catalog, typer"], check=True)
    return time.monotonic() - began


def refused(start: Start, *arguments: str) -> tuple[str, float]:
    """Start a server that must exit with 69; its last words, and how long it took."""
    began = time.monotonic()
    server = start(ONE, *arguments)
    assert server.end() == 69, server.log
    took = time.monotonic() - began
    assert "Traceback" not in "".join(server.log)
    assert not any("loading" in line for line in server.log)
    return server.log[-1], took


def test_a_second_daemon_on_the_same_folder_is_refused(start: Start, import_seconds: float) -> None:
    """Within two seconds, naming the first one, which goes on; after its death the folder is free at once."""
    server = start().ready()
    text, took = refused(start)
    assert f"pid {server.pid}" in text
    assert took < max(2.0, 3 * import_seconds)
    assert server.get("/readyz")[0] == 200
    kill(server)
    assert start().ready().stop() == 0


def test_a_taken_port_is_one_sentence(start: Start, folder: Path, import_seconds: float) -> None:
    """Within two seconds, with the address and whose it is; no worker was started, and it counts as no start."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        text, took = refused(start, "--port", str(port))
    assert f"127.0.0.1:{port} is taken by another program (pid {os.getpid()})" in text
    assert took < max(2.0, 3 * import_seconds)
    assert not (folder / "state" / FILE).exists()


@pytest.mark.parametrize("trouble", ["rmdir state; touch state", "ulimit -f 0"])
def test_without_a_disk_it_serves_on(start: Start, trouble: str) -> None:
    """No folder, a full disk: answers are given, the board says what is wrong, the log says it once, the code is 0."""
    server = start(shell=trouble).ready()
    assert server.post("/v1/completions", {"model": "echo", "prompt": "x"})[0] == 200
    server.until(lambda: server.machine("state")["state"], lambda state: state == "failing")
    assert facts(server, "state")["state_error"]
    assert server.stop() == 0
    assert sum('"event": "state_error"' in line for line in server.log) == 1


def test_odd_surroundings_are_no_reason_not_to_serve(start: Start, folder: Path) -> None:
    """No home, no working folder, no stdin, an open umask, a locale of the last century: served, and private."""
    odd = "umask 000; mkdir gone; cd gone; rmdir ../gone; unset HOME; export LC_ALL=C LANG=C; exec <&-"
    server = start(shell=odd).ready()
    assert server.post("/v1/completions", {"model": "echo", "prompt": "ü"})[0] == 200
    server.until(lambda: remembered(folder)["loaded"], lambda names: names == ["echo"])
    files = list((folder / "state").iterdir())
    assert {file.stat().st_mode & 0o077 for file in files} == {0}, files
    assert server.stop() == 0
    assert "Traceback" not in "".join(server.log)


def test_a_kernel_panic_holds_the_last_model_back(start: Start, folder: Path) -> None:
    """Everything else about it is the actor's; here: what was loaded last is written before it is loaded."""
    server = start(ONE.replace('"fake"', '"fake"\nscript = "load=30"')).listen()
    server.until(lambda: server.machine("model:echo")["state"], lambda state: state == "loading")
    server.until(
        lambda: (folder / "state" / FILE).exists() and remembered(folder)["latest"], lambda name: name == "echo"
    )
    assert server.stop() == 0
