"""A worker hangs: how soon that is found, what is told of it, and what is no reason to kill it."""

import os
import signal
import threading
import time
from collections.abc import Callable

import psutil
import pytest

from tests.support.server import Server

Serve = Callable[..., Server]

THREE = """
guide = false
[models.victim]
backend = "fake"
script = "step=0.01"
[models.napper]
backend = "fake"
script = "step=0.01"
[models.resting]
backend = "fake"
"""


def all_ready(serve: Serve, config: str, *models: str) -> Server:
    server = serve(config).listen()
    for model in models:
        server.loaded(model)
    return server


def chat(model: str, text: str) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": text}]}


def ends(processes: list[psutil.Process], began: float) -> list[float]:
    """Seconds from `began` to the end of each."""
    seen: list[float] = []
    left = psutil.wait_procs(processes, timeout=20.0, callback=lambda _: seen.append(time.monotonic() - began))[1]
    assert left == []
    return seen


@pytest.mark.slow
def test_stopped_workers(serve: Serve) -> None:
    """SIGSTOP at work and at rest: a verdict after 6 to 12 s, told as a wedge; SIGCONT after 5 s: nothing happened."""
    server = all_ready(serve, THREE, "victim", "napper", "resting")
    pids = {model: server.worker(model) for model in ("victim", "napper", "resting")}
    answers: dict[str, int] = {}
    asking = [threading.Thread(target=ask_at_length, args=(server, model, answers)) for model in ("victim", "napper")]
    for thread in asking:
        thread.start()
    for model in ("victim", "napper"):
        await_work(server, model)
    stopped = [psutil.Process(pids[model]) for model in ("victim", "resting")]
    began = time.monotonic()
    for pid in pids.values():
        os.kill(pid, signal.SIGSTOP)
    time.sleep(5.0)
    os.kill(pids["napper"], signal.SIGCONT)
    after = ends(stopped, began)
    assert 6.0 <= min(after) <= max(after) <= 12.0
    for thread in asking:
        thread.join(40)
    check_what_is_told_of(server, "victim", "resting")
    assert answers["napper"] == 200
    assert server.worker("napper") == pids["napper"]
    assert "first_cause" not in server.machine("model:napper")["facts"]


def ask_at_length(server: Server, model: str, answers: dict[str, int]) -> None:
    answers[model] = server.post("/v1/chat/completions", chat(model, "x" * 900))[0]


def await_work(server: Server, model: str) -> None:
    server.until(lambda: server.machine(f"model:{model}")["facts"]["in_flight"], lambda count: count == 1)


def check_what_is_told_of(server: Server, *models: str) -> None:
    """The cause in the facts, once in the log; and they answer again."""
    shown = {model["id"]: model["facts"] for model in server.get("/admin/models")[1]["models"]}
    for model in models:
        server.loaded(model)
        assert shown[model]["first_cause"].startswith("wedge: The worker was stuck: it said nothing for ")
        assert "the operating system has stopped it" in shown[model]["last_exit"]
        assert server.post("/v1/chat/completions", chat(model, "well again"))[0] == 200
    assert sum("worker_died_first" in line for line in server.log) == len(models)


STUCK = """
guide = false
[models.stuck]
backend = "fake"
script = "stall=token:30"
[models.resting]
backend = "fake"
[models.loading]
backend = "fake"
script = "load=60"
"""


@pytest.mark.slow
def test_no_worker_outlives_the_daemon(serve: Serve) -> None:
    """SIGKILL of the daemon: within 10 s none of its workers is left, not those that hang, load, or are at rest."""
    server = all_ready(serve, STUCK, "stuck", "resting")
    hanging = threading.Thread(target=lambda: _try(server), daemon=True)
    hanging.start()
    await_work(server, "stuck")
    daemon = psutil.Process(server.pid)
    workers = server.until(lambda: daemon.children(recursive=True), lambda found: len(found) == 3)
    server.process.kill()
    server.process.wait(10)
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    hanging.join(10)


def _try(server: Server) -> None:
    try:
        server.post("/v1/chat/completions", chat("stuck", "x" * 60))
    except OSError:
        return  # the connection was reset, as it should be
