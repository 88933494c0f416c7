"""What becomes of requests, and of everybody else, when a worker does what it should not."""

import operator
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import psutil
import pytest

from tests.chaos.real.reading import Reading
from tests.chaos.real.stage import Stage, config
from tests.support.server import Server

Begin = Callable[..., Stage]
MEBIBYTE = 1024 * 1024
GRACE = 2.0
"""Seconds that a stream may stand still beyond the time of a load."""


def facts(stage: Stage, model: str = "victim") -> dict[str, Any]:
    found: dict[str, Any] = stage.server.machine(f"model:{model}")["facts"]
    return found


def load_seconds(stage: Stage) -> float:
    """How long the victim's first load took, from its turn to `ready`."""
    moves = stage.server.get("/admin/machines")[1]["transitions"]
    own = [move for move in moves if move["actor"] == "model:victim"]
    began = next(move["at"] for move in own if move["target"] == "loading")
    ended = next(move["at"] for move in own if move["target"] == "ready")
    return float(ended - began)


def at_work(stage: Stage, requests: int = 1) -> None:
    stage.server.until(lambda: facts(stage)["in_flight"], lambda count: count == requests)


@pytest.mark.slow
def test_f1_killed_while_it_reads_a_prompt(stage: Begin) -> None:
    """F1, SIGKILL before the first token: the next worker reads it again and all is answered, in load time + 2 s."""
    scene = stage("step=0.02; load=0.5", "defaults.prefill_chunk = 32\n")
    usual, text = load_seconds(scene), "a long story " * 80
    reading = Reading(scene, "victim", text, max_tokens=40)
    at_work(scene)
    killed = scene.signal(signal.SIGKILL)
    assert reading.text == ""
    reading.whole(text[:40])
    assert reading.pause_after(killed) < usual + GRACE
    scene.epilogue()


@pytest.mark.slow
def test_f2_f3_killed_in_mid_stream(stage: Begin) -> None:
    """F2, SIGKILL after some text: the stream goes on where it stood, in load time + 2 s, and ends once.
    F3, a plain request beside it: its answer is that of an undisturbed one, down to the usage."""
    scene = stage("step=0.01; load=0.5")
    usual, text, plain = load_seconds(scene), "0123456789" * 20, "abcdefghij" * 15
    undisturbed = scene.asks("victim", plain)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(scene.asks, "victim", plain)
        reading = Reading(scene, "victim", text)
        neighbour = Reading(scene, "bystander", text)
        at_work(scene, 2)
        reading.reaches(20)
        killed = scene.signal(signal.SIGKILL)
        reading.whole(text)
        status, body = asking.result(30)
    assert reading.finishes == ["stop"]
    assert reading.pause_after(killed) < usual + GRACE
    neighbour.whole(text)
    assert (status, body["choices"]) == (200, undisturbed[1]["choices"])
    counted = ("prompt_tokens", "completion_tokens", "total_tokens")
    assert [body["usage"][name] for name in counted] == [undisturbed[1]["usage"][name] for name in counted]
    scene.epilogue()


@pytest.mark.slow
def test_f4_killed_between_the_last_token_and_the_end(stage: Begin) -> None:
    """F4, SIGKILL when all is written but the end is not told: one end, the right usage, no text twice."""
    scene = stage("step=0.01; die=token:31")
    text = "0123456789" * 3
    reading = Reading(scene, "victim", text, stream_options={"include_usage": True})
    reading.whole(text)
    assert reading.finishes == ["stop"]
    usages = [event["usage"] for _, event in reading.events if event.get("usage")]
    assert [usage["completion_tokens"] for usage in usages] == [31]
    assert facts(scene)["restarts"] == 1
    scene.epilogue()


ENDS = {
    "segv": "signal: The worker died of SIGSEGV.",
    "exit": "exit: The worker exited with code 0.",
    "junk": "protocol: The worker broke the protocol: a frame cannot be read",
    "half": "protocol: The worker broke the protocol: the peer closed in the middle of a frame.",
    "huge": "protocol: The worker broke the protocol: a frame of 1073741824 bytes was announced.",
    "oom": "oom: The engine broke: out of memory: the script says so",
    "gpu": "gpu: The engine broke: [METAL] Command buffer execution failed",
}


@pytest.mark.slow
def test_f5_f8_f9_f15_f56_every_end_is_a_death(stage: Begin) -> None:
    """SIGSEGV (F5), exit 0 (F8), garbage, half a frame and 1 GB on the pipe (F9), no memory (F15), a lost GPU (F56):
    named by its cause, at no cost of memory, and the stream goes on; after F15 with a slot less."""
    table = '[models.{0}]\nbackend = "fake"\nscript = "step=0.01; {0}=token:20"\nslots = 4\n'
    scene = stage(more="".join(table.format(word) for word in ENDS))
    for word in ENDS:
        scene.server.loaded(word)
    scene.before, pid = scene.inventory(), scene.server.worker("bystander")
    front, text = psutil.Process(scene.server.pid), "abcdefghijklmnopqrstuvwxy"
    memory, neighbour = front.memory_info().rss, Reading(scene, "bystander", "0123456789" * 150)
    for reading in [Reading(scene, word, text) for word in ENDS]:
        reading.whole(text)
    neighbour.whole("0123456789" * 150)
    assert front.memory_info().rss - memory < 16 * MEBIBYTE
    assert scene.server.worker("bystander") == pid
    for word, cause in ENDS.items():
        known = facts(scene, word)
        assert known["first_cause"].startswith(cause)
        assert (known["restarts"], known["slots"]) == (1, 3 if word == "oom" else 4)
    scene.epilogue(first_causes=len(ENDS))


@pytest.mark.slow
def test_f6_a_poison_that_the_client_repeats(stage: Begin) -> None:
    """F6, with the official client's retries: two deaths, one error that says not to retry, then ten minutes of 400;
    who was in the same batch is answered."""
    scene = stage("step=0.01; poison=arsenic")
    innocent = Reading(scene, "victim", "innocent " * 30)
    innocent.reaches(1)
    client = openai.OpenAI(base_url=scene.server.url + "/v1", api_key="none", max_retries=2)
    deadly: Any = [{"role": "user", "content": "arsenic"}]
    with pytest.raises(openai.InternalServerError) as failed:
        client.chat.completions.create(model="victim", messages=deadly)
    assert failed.value.code == "worker_died"
    assert failed.value.response.headers["x-should-retry"] == "false"
    for _ in range(3):
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model="victim", messages=deadly)
        assert refused.value.code == "request_quarantined"
    assert 500 < float(str(refused.value).rsplit(" s.", 1)[0].rsplit(" ", 1)[1]) <= 600
    innocent.whole("innocent " * 30)
    scene.epilogue()
    assert facts(scene)["restarts"] == 2


def test_f10_words_about_nobody(stage: Begin) -> None:
    """F10, tokens for a cancelled sequence and for an id that never was: counted, and nobody reads them."""
    scene = stage("step=0.01; babble=1")
    cancelled = scene.streams("victim", "x" * 2000)
    for _ in range(5):
        next(cancelled)
    cancelled.close()  # type: ignore[attr-defined]
    readings = [(Reading(scene, "victim", text * 20), text * 20) for text in ("one ", "two ", "three ")]
    for reading, text in readings:
        reading.whole(text)
    strays = [line for line in scene.server.get("/metrics")[1].splitlines() if line.startswith("lmx_stray_reports_t")]
    counts = {line.split(" ")[0]: float(line.split(" ")[1]) for line in strays}
    assert counts['lmx_stray_reports_total{model="victim"}'] > 100
    assert facts(scene)["restarts"] == 0
    scene.epilogue(first_causes=0)


def test_f11_no_end_and_no_numbers(stage: Begin) -> None:
    """F11, the same token for ever ends with `length`; one without numbers ends with an error, alone in its batch."""
    scene = stage("step=0.005; endless=for ever; error=token:60")
    endless = Reading(scene, "victim", "for ever", max_tokens=50)
    broken = Reading(scene, "victim", "x" * 100)
    endless.whole("a" * 50)
    assert endless.finishes == ["length"]
    assert [error["code"] for error in broken.end().errors] == ["engine_error"]
    assert broken.finishes == []
    assert facts(scene)["restarts"] == 0
    scene.epilogue(first_causes=0)


def test_f12_a_canary_that_lies(stage: Begin) -> None:
    """F12, other answers than expected: never ready, 503 that says why, and the log names the files' digest."""
    scene = stage("lie=1", begins="quarantined")
    status, body = scene.asks("victim")
    assert (status, body["error"]["code"]) == (503, "model_quarantined")
    assert "different greedy answers" in body["error"]["message"]
    moves = [move for move in scene.server.get("/admin/machines")[1]["transitions"] if move["actor"] == "model:victim"]
    assert "ready" not in [move["target"] for move in moves]
    digest = facts(scene)["digest"]
    assert [line for line in scene.server.log if "canary" in line and digest in line], scene.server.log
    scene.epilogue(first_causes=0, victim="quarantined")


@pytest.mark.slow
def test_f13_a_slow_canary(stage: Begin) -> None:
    """F13, more than ten times as slow as the first one: still ready, noted as degraded, forgiven with the next one."""
    scene = stage("step=0.001", "liveness.canary_idle_seconds = 1.0\n")
    pid, first = scene.server.worker("victim"), facts(scene)["canary_seconds"]
    scene.signal(signal.SIGSTOP)
    time.sleep(1.0 + max(10 * first, 1.0) + 1.5)
    scene.signal(signal.SIGCONT)
    scene.server.until(lambda: facts(scene).get("degraded"), bool)
    assert scene.server.machine("model:victim")["state"] == "ready"
    scene.server.until(lambda: facts(scene).get("degraded"), lambda degraded: not degraded)
    assert scene.server.worker("victim") == pid
    scene.epilogue(first_causes=0)


def test_f14_no_memory_at_load(stage: Begin) -> None:
    """F14, a load for which there is no memory: refused with 503 that says so, not tried again and again."""
    scene = stage("oom=load", begins="failed")
    status, body = scene.asks("victim")
    assert (status, body["error"]["code"]) == (503, "insufficient_memory")
    assert "out of memory" in body["error"]["message"]
    assert facts(scene)["restarts"] == 0
    scene.epilogue(first_causes=0, victim="failed")


@pytest.mark.slow
def test_f16_the_front_is_killed(tmp_path: Any) -> None:
    """F16, SIGKILL of the daemon under load: no worker is left after 10 s; the next one listens within 5 s and knows
    what the last one had written down."""
    folder, script = tmp_path / "f16", config("lie=1")
    folder.mkdir()
    first = Stage(Server(folder, script), "quarantined")
    daemon = psutil.Process(first.server.pid)
    reading = first.streams("bystander", "x" * 2000)
    next(reading)
    workers = daemon.children(recursive=True)
    assert workers
    first.server.process.kill()
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    first.server.process.wait(5)
    began = time.monotonic()
    again = Server(folder, script).listen()
    assert time.monotonic() - began < 5.0
    scene = Stage(again, "quarantined")
    scene.epilogue(first_causes=0, victim="quarantined")
    moves = [move for move in again.get("/admin/machines")[1]["transitions"] if move["actor"] == "model:victim"]
    assert "loading" not in [move["target"] for move in moves]
    assert again.stop() == 0


DEAF = """
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, "-m", "tests.support.witness", *sys.argv[1:]])
"""


@pytest.mark.slow
def test_f57_no_zombies(stage: Begin) -> None:
    """F57, started by somebody who ignores SIGCHLD: two workers die, each is reaped within 1 s and named rightly."""
    scene = stage(program=(sys.executable, "-c", DEAF))
    front = psutil.Process(scene.server.pid)
    for _ in range(2):
        worker = scene.worker()
        scene.signal(signal.SIGKILL)
        scene.server.until(worker.is_running, operator.not_, 1.0)
        scene.server.until(lambda: scene.server.machine("model:victim")["state"], lambda state: state != "ready", 1.0)
        scene.server.loaded("victim")
    zombies = [child for child in front.children(recursive=True) if child.status() == psutil.STATUS_ZOMBIE]
    assert zombies == []
    assert facts(scene)["last_exit"] == "The worker was killed (SIGKILL)."
    scene.epilogue()


@pytest.mark.slow
def test_f59_the_pipe_is_full(stage: Begin) -> None:
    """F59, the front stands still while a worker writes much: the worker waits, nobody is killed, nothing is lost."""
    scene = stage("step=0.0")
    worker, text = scene.worker(), "0123456789" * 190
    for _ in range(2):
        reading = Reading(scene, "victim", text, logprobs=True, top_logprobs=20)
        reading.reaches(1)
        scene.server.process.send_signal(signal.SIGSTOP)
        blocked(worker)
        scene.server.process.send_signal(signal.SIGCONT)
        reading.whole(text)
        assert len([one for _, event in reading.events for one in logprobs(event)]) == len(text)
    cancelled = scene.streams("victim", text, logprobs=True, top_logprobs=20)
    next(cancelled)
    scene.server.process.send_signal(signal.SIGSTOP)
    blocked(worker)
    cancelled.close()  # type: ignore[attr-defined]
    scene.server.process.send_signal(signal.SIGCONT)
    assert scene.worker().pid == worker.pid
    scene.epilogue(first_causes=0)


def logprobs(event: dict[str, Any]) -> list[Any]:
    found = [choice.get("logprobs") for choice in event.get("choices", ())]
    return [one for told in found if told for one in told["content"]]


def blocked(worker: psutil.Process) -> None:
    """Wait until it computes nothing any more."""

    def used() -> float:
        times = worker.cpu_times()
        return float(times.user + times.system)

    deadline, before = time.monotonic() + 10, used()
    while True:
        time.sleep(0.5)
        if (now := used()) - before < 0.03:
            return
        assert time.monotonic() < deadline
        before = now
