"""What becomes of a server, and of everybody else, when clients do what they should not."""

import contextlib
import itertools
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from tests.chaos.real.reading import Reading
from tests.chaos.real.stage import Stage

Begin = Callable[..., Stage]
MEBIBYTE = 1024 * 1024


def request(stage: Stage, text: str, *, model: str = "victim", **fields: Any) -> str:
    """A chat as it is sent."""
    where = urlsplit(stage.server.url)
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": text}], "stream": True, **fields})
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}"


@contextlib.contextmanager
def asking(stage: Stage, text: str, *, buffer: int = 0, **fields: Any) -> Iterator[socket.socket]:
    """A connection on which a chat was asked for; `buffer`: bytes that the kernel takes for it unread."""
    where = urlsplit(stage.server.url)
    with socket.socket() as connection:
        if buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.settimeout(30)
        connection.connect((where.hostname, where.port))
        connection.sendall(request(stage, text, **fields).encode())
        yield connection


def facts(stage: Stage) -> dict[str, Any]:
    found: dict[str, Any] = stage.server.machine("model:victim")["facts"]
    return found


def metric(stage: Stage, name: str) -> float:
    lines = stage.server.get("/metrics")[1].splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def freed(stage: Stage, seconds: float = 10.0) -> float:
    """Wait until the engine holds nothing; how long that took."""
    began = time.monotonic()
    stage.server.until(lambda: facts(stage), lambda now: now["in_flight"] == now["kv_used"] == 0, seconds)
    return time.monotonic() - began


def seen_by_the_engine(stage: Stage) -> None:
    stage.server.until(lambda: facts(stage).get("kv_used"), bool)


@pytest.mark.slow
def test_f20_clients_that_close(stage: Begin) -> None:
    """F20, in a prompt and in mid-stream: the engine is rid of it within 250 ms; while it waits: it never starts."""
    scene = stage("step=0.02; poison=arsenic", "defaults.prefill_chunk = 32\n")
    pid = scene.server.worker("victim")
    in_prompt, in_text = [], []
    for _ in range(2):
        with asking(scene, "y" * 3500):
            seen_by_the_engine(scene)
        in_prompt.append(freed(scene))
        with asking(scene, "z" * 1500) as connection:
            while b'"content":"z' not in connection.recv(4096):
                pass
            seen_by_the_engine(scene)
        in_text.append(freed(scene))
    assert min(in_prompt) < 0.25
    assert min(in_text) < 0.25
    leave_while_it_waits(scene)
    assert scene.server.worker("victim") == pid, "the one that waited was started after all"
    scene.epilogue(first_causes=0)


def leave_while_it_waits(scene: Stage) -> None:
    """A client whose request kills whatever worker begins it."""
    waiting = 'lmx_queued_requests{class="interactive",model="victim"}'
    with contextlib.ExitStack() as others:
        for number in range(24):
            others.enter_context(asking(scene, f"{number}" * 800))
        scene.server.until(lambda: metric(scene, "lmx_in_flight "), lambda count: count == 24)
        with asking(scene, "arsenic"):
            scene.server.until(lambda: metric(scene, "lmx_in_flight "), lambda count: count == 25)
            assert metric(scene, waiting) > 1
        scene.server.until(lambda: metric(scene, "lmx_in_flight "), lambda count: count == 24)
    freed(scene)


@pytest.mark.parametrize("streamed", [True, False])
def test_f21_a_client_that_closes_half(stage: Begin, streamed: bool) -> None:
    """F21, no more from its side: that is a client that is gone; its slot is free within 1 s, the connection ends."""
    scene = stage("step=0.01")
    with asking(scene, "x" * 3000, stream=streamed) as connection:
        seen_by_the_engine(scene)
        connection.shutdown(socket.SHUT_WR)
        assert freed(scene) < 1.0
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(65536):
                pass
    scene.epilogue(first_causes=0)


@pytest.mark.slow
def test_f22_a_client_that_never_reads(stage: Begin) -> None:
    """F22, with more to tell than the kernel and 1 MiB take: cut, with the reason, and nobody else's tokens come later.

    With less to tell it would be after 30 s: tests/http/test_wire.py.
    """
    scene = stage("step=0.001")
    front = psutil.Process(scene.server.pid)
    before, memory = pauses(scene), front.memory_info().rss
    with asking(scene, "x" * 1900, buffer=4096, n=4, logprobs=True, top_logprobs=20):
        began = time.monotonic()
        scene.server.until(lambda: metric(scene, "lmx_in_flight "), lambda count: count == 4)
        freed(scene, 30.0)
        meanwhile = pauses(scene)
        scene.server.until(lambda: metric(scene, "lmx_in_flight "), lambda count: count == 0, 60.0)
        took = time.monotonic() - began
    assert took < 30.0
    assert any('"client_cut"' in line and "bytes were waiting for it" in line for line in scene.server.log)
    assert front.memory_info().rss - memory < 64 * MEBIBYTE
    assert meanwhile < max(1.1 * before, before + 0.05), (before, meanwhile)
    scene.epilogue(first_causes=0)


def pauses(scene: Stage) -> float:
    """The longest pause in a stream of the bystander, in seconds."""
    reading = Reading(scene, "bystander", "0123456789" * 80).end()
    times = [at for at, _ in reading.deltas]
    return max(later - sooner for sooner, later in itertools.pairwise(times))


STORM = """
import socket, struct, sys, time
host, port, request, seconds = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode(), float(sys.argv[4])
count, end = 0, time.monotonic() + seconds
while time.monotonic() < end:
    with socket.create_connection((host, port)) as connection:
        connection.sendall(request)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    count += 1
print(count)
"""
STORM_SECONDS = 8.0


@pytest.mark.slow
def test_f62_a_storm_of_cancels(stage: Begin) -> None:
    """F62, a client that asks and resets as fast as it can: bounded in all it holds, and others are answered."""
    scene = stage("step=0.005")
    front, pid = psutil.Process(scene.server.pid), scene.server.worker("victim")
    before, memory = answers(scene), front.memory_info().rss
    where = urlsplit(scene.server.url)
    arguments = (str(where.hostname), str(where.port), request(scene, "x" * 200), str(STORM_SECONDS))
    with subprocess.Popen([sys.executable, "-c", STORM, *arguments], stdout=subprocess.PIPE, text=True) as storm:
        meanwhile = answers(scene)
        assert storm.poll() is None
        rate = float(storm.communicate()[0]) / STORM_SECONDS
    assert rate > 100
    assert meanwhile[0] < 1.2 * before[0] + 0.01
    assert meanwhile[1] < 1.0
    freed(scene)
    assert front.memory_info().rss - memory < 32 * MEBIBYTE
    assert scene.server.worker("victim") == pid
    scene.epilogue(first_causes=0)


def answers(scene: Stage) -> tuple[float, float]:
    """The median and the largest of how long 30 answers of the bystander take, in seconds."""

    def one() -> float:
        began = time.monotonic()
        assert scene.asks("bystander", "hello")[0] == 200
        return time.monotonic() - began

    times = sorted(one() for _ in range(30))
    return times[15], times[-1]
