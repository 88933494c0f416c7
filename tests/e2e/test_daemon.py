"""The daemon's own life: start, readiness, stop, and what it leaves behind."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.support.server import Server

Serve = Callable[..., Server]

ECHO = """
guide = false
[models.echo]
backend = "fake"
script = "{script}"
"""


def test_alive_before_ready_and_the_reason_is_told(serve: Serve) -> None:
    """/healthz answers while the model loads; /readyz is 503 with the model's state until it can answer."""
    server = serve(ECHO.format(script="load=3")).listen()
    assert server.get("/healthz")[0] == 200
    status, body = server.get("/readyz")
    assert status == 503
    assert body["models"]["echo"] in {"unloaded", "queued", "loading"}
    assert body["reason"]
    server.ready()


def test_sigterm_lets_running_answers_finish(serve: Serve) -> None:
    """In-flight requests end well, new ones are refused, the exit code is 0, and no process is left."""
    server = serve(ECHO.format(script="step=0.02")).ready()
    body = {"model": "echo", "messages": [{"role": "user", "content": "x" * 100}]}
    answers: list[tuple[int, dict]] = []  # type: ignore[type-arg]
    asking = threading.Thread(target=lambda: answers.append(server.post("/v1/chat/completions", body)))
    asking.start()
    server.until(lambda: server.machine("model:echo")["facts"]["in_flight"], lambda count: count == 1)
    worker = server.worker("echo")
    server.process.send_signal(signal.SIGTERM)
    server.until(lambda: server.get("/readyz")[0], lambda status: status == 503)
    status, refused = server.post("/v1/chat/completions", body)
    assert status == 503
    assert refused["error"]["code"] == "draining"
    asking.join(30)
    assert answers[0][0] == 200
    assert answers[0][1]["choices"][0]["message"]["content"] == "x" * 100
    assert server.process.wait(10) == 0
    assert not psutil.pid_exists(worker)


def test_a_second_sigterm_does_not_wait(serve: Serve) -> None:
    """Asked twice, it aborts what runs and ends within two seconds."""
    server = serve(ECHO.format(script="step=0.02")).ready()
    body = {"model": "echo", "messages": [{"role": "user", "content": "x" * 3000}]}
    answers: list[tuple[int, dict]] = []  # type: ignore[type-arg]
    asking = threading.Thread(target=lambda: answers.append(server.post("/v1/chat/completions", body)))
    asking.start()
    server.until(lambda: server.machine("model:echo")["facts"]["in_flight"], lambda count: count == 1)
    server.process.send_signal(signal.SIGTERM)
    server.until(lambda: server.machine("server")["state"], lambda state: state == "draining")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(2.5) == 0
    asking.join(5)
    assert answers[0][0] == 503
    assert answers[0][1]["error"]["code"] == "aborted"


def test_a_stop_during_a_load_is_quick(serve: Serve) -> None:
    """A load is no reason to wait: SIGTERM ends it within three seconds, without orphans."""
    server = serve(ECHO.format(script="load=60")).listen()
    server.until(lambda: server.machine("model:echo")["facts"].get("pid"), bool)
    assert server.stop(3.0) == 0


def test_no_orphan_survives_a_killed_daemon(serve: Serve) -> None:
    """SIGKILL of the daemon: its workers are gone within seconds."""
    server = serve(ECHO.format(script="")).ready()
    worker = psutil.Process(server.worker("echo"))
    os.kill(server.pid, signal.SIGKILL)
    server.process.wait(5)
    worker.wait(10)


def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    """Exit code 69, the address in the message, no traceback, and no worker was started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (tmp_path / "c.toml").write_text(f'state_dir = "{tmp_path}"\n' + ECHO.format(script=""))
        command = [sys.executable, "-m", "lmx", "serve", "--config", "c.toml", "--port", str(port)]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 69
    assert f"127.0.0.1:{port} is taken" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_three_unclean_starts_end_in_safe_mode(tmp_path: Path) -> None:
    """Killed three times in a minute, it serves its admin pages and loads nothing by itself; an admin still can."""
    for _ in range(2):
        server = Server(tmp_path, ECHO.format(script="")).ready()
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait(5)
    server = Server(tmp_path, ECHO.format(script="")).listen()
    server.until(lambda: server.machine("crash_loop")["state"], lambda state: state == "safe_mode")
    status, body = server.post("/v1/completions", {"model": "echo", "prompt": "x"})
    assert (status, body["error"]["code"]) == (503, "safe_mode")
    assert server.post("/admin/models/echo/load", {})[0] == 200
    assert server.post("/v1/completions", {"model": "echo", "prompt": "x"})[0] == 200
    assert server.post("/admin/safe-mode/release", {}) == (200, {"state": "watching"})
    assert server.machine("crash_loop")["state"] == "watching"
    assert server.stop() == 0


def test_the_state_is_private_and_clean_after_a_stop(tmp_path: Path) -> None:
    """The state file belongs to the user alone, and a clean stop leaves no start in it."""
    server = Server(tmp_path, ECHO.format(script="")).ready()
    assert server.stop() == 0
    file = tmp_path / "state" / "runtime-state.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text() == '{"starts": []}'
