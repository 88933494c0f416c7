"""Measures what docs/promises.md says, on a real server: `.venv/bin/python -m tests.chaos.promises [PART …]`."""

import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median, quantiles
from threading import Event, Thread
from urllib.parse import urlsplit

import psutil

from tests.chaos import mixed
from tests.chaos.soak.client import Client
from tests.chaos.soak.shapes import BAD, CHAT, chat, delta
from tests.support.server import Server

VICTIMS = tuple(f"victim{number}" for number in range(5))
CONFIG = 'guide = false\n[models.steady]\nbackend = "fake"\nscript = "step=0.02"\n'
VICTIM = '[models.{}]\nbackend = "fake"\nscript = "step=0.02"\n'
NARROW = """
[models.writer]
backend = "fake"
script = "step=0.02"
slots = 1
"""
LONG = "x" * 3000


def deaths(folder: Path) -> str:
    """Worker death -> its clients told; worker back; another model's first token meanwhile."""
    server = served(folder, *VICTIMS)
    calm, told, back = [first_token(server) for _ in range(100)], [], []
    with Sampled(server) as meanwhile:
        for model in VICTIMS:
            stream = Client(server.url).events(CHAT, chat(model, LONG, stream=True))
            with closing(stream):
                while not delta(next(stream)):
                    pass
                back.append(replaced(server, model))
                next(stream)  # it goes on
                os.kill(server.worker(model), signal.SIGKILL)
                killed = time.monotonic()
                while '"error"' not in next(stream):
                    pass
                told.append(time.monotonic() - killed)
    server.stop()
    return (
        f"told after the second death {shown(told)}; worker back {shown(back)}; first token of another model"
        f" p99 {p99(calm):.3f} s, meanwhile {p99(meanwhile.seen):.3f} s (n = {len(meanwhile.seen)})"
    )


def replaced(server: Server, model: str) -> float:
    before, began = server.worker(model), time.monotonic()
    os.kill(before, signal.SIGKILL)
    server.until(
        lambda: server.machine(f"model:{model}"),
        lambda now: now["state"] == "ready" and now["facts"]["pid"] != before,
    )
    return time.monotonic() - began


def hangs(folder: Path) -> str:
    """SIGSTOP -> the worker is found out and killed."""
    server, seen, began = served(folder, *VICTIMS), [], {}
    processes = [psutil.Process(server.worker(model)) for model in VICTIMS]
    for one in processes:
        one.suspend()
        began[one.pid] = time.monotonic()
        time.sleep(0.3)
    psutil.wait_procs(processes, 30, callback=lambda one: seen.append(time.monotonic() - began[one.pid]))
    server.stop()
    return f"found and killed after {shown(seen)}"


def leavers(folder: Path) -> str:
    """Client gone -> the one who waits for its slot has its first token, less what that takes an idle model."""
    server = served(folder, more=NARROW)
    decode = [handed_over(server, "writer", "x" * 500) for _ in range(10)]
    server.stop()
    return f"in decode, with steps of 20 ms, {shown(decode)}"


def handed_over(server: Server, model: str, text: str) -> float:
    calm = first_token(server, model)
    came: list[float] = []
    leaver = Leaver(server, chat(model, text, stream=True))
    server.until(lambda: in_flight(server, model), lambda count: count == 1)
    leaver.begun()
    waiting = Thread(target=lambda: came.append(ends(server, model)), daemon=True)
    waiting.start()
    time.sleep(0.5)
    assert not came
    gone = time.monotonic()
    leaver.leave()
    waiting.join()
    return max(0.0, came[0] - gone - calm)


def ends(server: Server, model: str) -> float:
    """When a first token came."""
    first_token(server, model)
    return time.monotonic()


class Leaver:
    """Asks on a bare socket, for it will not wait for an answer."""

    def __init__(self, server: Server, body: object) -> None:
        parts, content = urlsplit(server.url), json.dumps(body).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
        self._socket = socket.create_connection((str(parts.hostname), int(parts.port or 0)), 20)
        self._socket.sendall(head.encode() + b"\r\n\r\n" + content)

    def begun(self) -> None:
        heard = b""
        while b'"content":"x' not in heard:
            more = self._socket.recv(4096)
            assert more, heard
            heard += more

    def leave(self) -> None:
        self._socket.close()


def in_flight(server: Server, model: str) -> int:
    return int(server.machine(f"model:{model}")["facts"]["in_flight"])


def stops(folder: Path) -> str:
    """SIGTERM with a stream -> listener closed, the stream's end, exit; a second SIGTERM -> exit."""
    closed: list[float] = []
    ended: list[float] = []
    second: list[float] = []
    for number in range(3):
        for twice in (False, True):
            server = served(folder / f"{number}{twice}")
            stream = Client(server.url).events(CHAT, chat("steady", LONG if twice else "x" * 100, stream=True))
            next(stream)
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            closed.append(until_refused(server) - began)
            if twice:
                began = time.monotonic()
                server.process.send_signal(signal.SIGTERM)
            *_, last = stream
            assert last == "[DONE]"
            assert server.end() == 0
            (second if twice else ended).append(time.monotonic() - began)
    return f"listener closed {shown(closed)}; a stream of 2 s and exit 0 {shown(ended)}; second signal {shown(second)}"


def until_refused(server: Server) -> float:
    parts = urlsplit(server.url)
    while True:
        with socket.socket() as attempt:
            if attempt.connect_ex((str(parts.hostname), int(parts.port or 0))):
                return time.monotonic()


def kills(folder: Path) -> str:
    """SIGKILL of the daemon -> its workers gone; started again -> listening, and ready."""
    orphans, listening, ready = [], [], []
    for number in range(3):
        server = served(folder / str(number), *VICTIMS[:2])
        workers = psutil.Process(server.pid).children(recursive=True)
        server.process.kill()
        began = time.monotonic()
        assert psutil.wait_procs(workers, 20)[1] == []
        orphans.append(time.monotonic() - began)
        server.end()
        began = time.monotonic()
        again = Server(folder / str(number), (CONFIG + "".join(map(VICTIM.format, VICTIMS[:2]))))
        SERVERS.append(again)
        again.listen()
        listening.append(time.monotonic() - began)
        again.loaded("steady")
        ready.append(time.monotonic() - began)
        again.stop()
    return f"workers gone {shown(orphans)}; listening again {shown(listening)}; first model ready {shown(ready)}"


def bad_inputs(folder: Path) -> str:
    """Requests that are wrong -> a short answer, soon; nobody dies."""
    server = served(folder)
    client, worker, took, sizes = Client(server.url), server.worker("steady"), [], []
    for _ in range(10):
        for request in BAD:
            began = time.monotonic()
            status, answer = client.ask(**{"path": CHAT, **request})
            took.append(time.monotonic() - began)
            sizes.append(len(json.dumps(answer)))
            assert 400 <= status < 500, (status, answer)
    assert server.worker("steady") == worker
    server.stop()
    return f"{len(took)} answers, 0 of them 5xx, 0 deaths; {shown(took)}, p99 {p99(took):.3f} s; {max(sizes)} B at most"


def mixed_inputs(folder: Path) -> str:
    """B99: 10,000 requests, a quarter of them valid -> what is valid is answered, the rest refused, nothing else."""
    server = Server(folder, mixed.CONFIG)
    SERVERS.append(server)
    server.ready()
    outcome = asyncio.run(mixed.run(server, 10_000))
    assert outcome.wrong == [], outcome.wrong[:10]
    server.stop()
    return str(outcome)


class Sampled:
    """First tokens of the steady model, one after the other, while something else goes on."""

    def __init__(self, server: Server) -> None:
        self.seen: list[float] = []
        self._over = Event()
        self._thread = Thread(target=self._run, args=(server,))

    def __enter__(self) -> "Sampled":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self, server: Server) -> None:
        while not self._over.is_set():
            self.seen.append(first_token(server))


def first_token(server: Server, model: str = "steady") -> float:
    began = time.monotonic()
    with closing(Client(server.url).events(CHAT, chat(model, "x", stream=True))) as stream:
        while not delta(next(stream)):
            pass
    return time.monotonic() - began


def served(folder: Path, *models: str, more: str = "") -> Server:
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(folder, CONFIG + "".join(map(VICTIM.format, models)) + more)
    SERVERS.append(server)
    server.ready()
    for model in ("steady", *models, *(["writer"] if more else [])):
        server.loaded(model)
    return server


def shown(seconds: list[float]) -> str:
    return f"{median(seconds):.3f} s (max {max(seconds):.3f}, n = {len(seconds)})"


def p99(seconds: list[float]) -> float:
    return quantiles(seconds, n=100)[98]


SERVERS: list[Server] = []
"""All that were started: none may stay when something goes wrong."""
PARTS: tuple[Callable[[Path], str], ...] = (deaths, hangs, leavers, stops, kills, bad_inputs, mixed_inputs)


def main() -> None:
    asked = sys.argv[1:]
    try:
        for part in PARTS:
            if not asked or part.__name__ in asked:
                with tempfile.TemporaryDirectory(prefix="lmx-promises-") as folder:
                    print(f"{part.__name__}: {part(Path(folder))}", flush=True)
    finally:
        for server in SERVERS:
            if server.process.poll() is None:
                server.stop()


if __name__ == "__main__":
    main()
