"""`lmx chaos`: it breaks what it says, and only where that is allowed."""

import json
import time
from collections.abc import Callable

import psutil
import pytest

from lmx.cli import run
from tests.support.server import Server

Serve = Callable[..., Server]

MODEL = """
guide = false
[models.victim]
backend = "fake"
"""
ALLOWED = MODEL + "[chaos]\nenabled = true\n"


def ready(serve: Serve, config: str) -> Server:
    server = serve(config).ready()
    server.loaded("victim")
    return server


def chaos(server: Server, *words: str) -> int:
    """Exit code."""
    return run(["chaos", *words, "--url", server.url])


def test_a_killed_worker_is_replaced(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    """kill-worker says what it did; the death is an ordinary one, the model comes back; log and journal tell it."""
    server = ready(serve, ALLOWED)
    before = server.worker("victim")
    assert chaos(server, "kill-worker", "victim") == 0
    assert capsys.readouterr().out == f"SIGKILL was sent to the worker of victim (pid {before}).\n"
    server.until(
        lambda: server.machine("model:victim"),
        lambda machine: machine["state"] == "ready" and machine["facts"]["pid"] != before,
    )
    [told] = [json.loads(line) for line in server.log if '"event": "chaos"' in line]
    assert (told["what"], told["of"]) == ("kill-worker", "victim")
    entries = server.until(lambda: server.get("/admin/journal?actor=chaos")[1]["entries"], bool)
    assert [(one["event"], one["data"]) for one in entries] == [("chaos", {"what": "kill-worker", "of": "victim"})]


def test_without_the_switch_nothing_is_broken(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    """The answer is 403, the sentence names the switch, and the worker lives."""
    server = ready(serve, MODEL)
    before = server.worker("victim")
    assert chaos(server, "kill-worker", "victim") == 1
    assert "set chaos.enabled = true in the config file" in capsys.readouterr().err
    assert server.post("/admin/chaos/block-loop", {"of": "1"})[0] == 403
    assert server.worker("victim") == before
    assert psutil.Process(before).is_running()


def test_a_worker_stops_and_goes_on(serve: Serve) -> None:
    """stop-worker and continue-worker are the two signals."""
    server = ready(serve, ALLOWED)
    worker = psutil.Process(server.worker("victim"))
    assert chaos(server, "stop-worker", "victim") == 0
    server.until(worker.status, lambda status: status == psutil.STATUS_STOPPED)
    assert chaos(server, "continue-worker", "victim") == 0
    server.until(worker.status, lambda status: status != psutil.STATUS_STOPPED)
    assert server.worker("victim") == worker.pid


def test_an_actor_crashes_and_starts_over(serve: Serve) -> None:
    """The server answers all the same."""
    server = ready(serve, ALLOWED)
    assert chaos(server, "crash-actor", "admission") == 0
    server.until(lambda: "".join(server.log), lambda log: '"event": "actor_crashed"' in log)
    body = {"model": "victim", "messages": [{"role": "user", "content": "still there"}]}
    assert server.post("/v1/chat/completions", body)[0] == 200


def test_the_loop_stands_still(serve: Serve) -> None:
    """The command answers first; for two seconds nobody else is answered."""
    server = ready(serve, ALLOWED)
    began = time.monotonic()
    assert chaos(server, "block-loop", "2") == 0
    assert time.monotonic() - began < 1.5
    server.until(lambda: time.monotonic() - began, lambda seconds: seconds > 0.5)
    assert server.get("/livez")[0] == 200
    assert time.monotonic() - began > 1.9


def test_memory_seems_to_run_out(serve: Serve) -> None:
    """At 97 % requests are refused; when the pretence ends they are served."""
    server = ready(serve, ALLOWED)
    assert chaos(server, "memory", "0.97") == 0
    server.until(lambda: server.machine("memory")["state"], lambda state: state == "shedding")
    assert chaos(server, "memory", "0") == 0
    server.until(lambda: server.machine("memory")["state"], lambda state: state == "nominal", 30.0)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("kill-worker", "nobody"), "nobody has no worker now."),
        (("crash-actor", "nobody"), "There is no actor nobody, expected one of state, loader, memory, admission"),
        (("block-loop", "4000"), "'4000' is not seconds, expected 0 to 3600."),
        (("memory", "97"), "'97' is not a share, expected 0 to 1."),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    serve: Serve, capsys: pytest.CaptureFixture[str], words: tuple[str, str], complaint: str
) -> None:
    """Exit code 1, and nothing is broken."""
    server = ready(serve, ALLOWED)
    assert chaos(server, *words) == 1
    assert complaint in capsys.readouterr().err
