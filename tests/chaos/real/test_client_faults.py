"""What becomes of a server, and of everybody else, when clients do what they should not."""

import contextlib
import itertools
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from tests.chaos.real.reading import Reading
from tests.chaos.real.stage import Stage

Begin = Callable[..., Stage]
MEBIBYTE = 1024 * 1024


@contextlib.contextmanager
def asking(
    stage: Stage, text: str, *, model: str = "victim", buffer: int = 0, **fields: Any
) -> Iterator[socket.socket]:
    """A connection on which a chat was asked for; `buffer`: bytes that the kernel takes for it unread."""
    where = urlsplit(stage.server.url)
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": text}], "stream": True, **fields})
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: application/json\r\n"
    with socket.socket() as connection:
        if buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.settimeout(30)
        connection.connect((where.hostname, where.port))
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
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
    queued = 'lmx_queued_requests{class="interactive",model="victim"}'
    with contextlib.ExitStack() as others:
        for number in range(24):
            others.enter_context(asking(scene, f"{number}" * 800))
        many = scene.server.until(lambda: metric(scene, queued), lambda waiting: waiting >= 4)
        with asking(scene, "arsenic"):
            scene.server.until(lambda: metric(scene, queued), lambda waiting: waiting > many)
        scene.server.until(lambda: metric(scene, queued), lambda waiting: waiting <= many)
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
    """F22, with more to tell than the kernel takes: cut off after 30 s, and nobody else's tokens come later for it."""
    scene = stage("step=0.001")
    front = psutil.Process(scene.server.pid)
    before, memory = pauses(scene), front.memory_info().rss
    with asking(scene, "x" * 1900, buffer=4096, n=4, logprobs=True, top_logprobs=20):
        began = time.monotonic()
        scene.server.until(lambda: metric(scene, "lmx_in_flight "), lambda count: count == 1)
        meanwhile = pauses(scene)
        scene.server.until(lambda: metric(scene, "lmx_in_flight "), lambda count: count == 0, 60.0)
        took = time.monotonic() - began
    assert 30.0 < took < 45.0
    assert front.memory_info().rss - memory < 64 * MEBIBYTE
    assert meanwhile < max(1.1 * before, before + 0.05), (before, meanwhile)
    scene.epilogue(first_causes=0)


def pauses(scene: Stage) -> float:
    """The 99th percentile of the pauses in a stream of the bystander, in seconds."""
    reading = Reading(scene, "bystander", "0123456789" * 80).end()
    times = [at for at, _ in reading.deltas]
    return sorted(later - sooner for sooner, later in itertools.pairwise(times))[-max(1, len(times) // 100)]


@pytest.mark.slow
def test_f62_a_storm_of_cancels(stage: Begin) -> None:
    """F62, a client that asks and resets as fast as it can: bounded in all it holds, and others are answered."""
    scene = stage("step=0.005")
    front, pid = psutil.Process(scene.server.pid), scene.server.worker("victim")
    before, memory = answers(scene), front.memory_info().rss
    over = threading.Event()

    def storm() -> int:
        count = 0
        while not over.is_set():
            with asking(scene, "x" * 200) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            count += 1
        return count

    with ThreadPoolExecutor(1) as pool:
        storming, began = pool.submit(storm), time.monotonic()
        meanwhile = answers(scene)
        over.set()
        rate = storming.result() / (time.monotonic() - began)
    print(f"{rate:.0f} cancels/s; p99 {before:.3f} s before, {meanwhile:.3f} s meanwhile")
    assert rate > 100
    assert meanwhile < 1.0
    freed(scene)
    assert front.memory_info().rss - memory < 32 * MEBIBYTE
    assert scene.server.worker("victim") == pid
    scene.epilogue(first_causes=0)


def answers(scene: Stage) -> float:
    """The 99th percentile of how long the bystander's answers take, of 100, in seconds."""

    def one() -> float:
        began = time.monotonic()
        assert scene.asks("bystander", "hello")[0] == 200
        return time.monotonic() - began

    return sorted(one() for _ in range(100))[-2]
