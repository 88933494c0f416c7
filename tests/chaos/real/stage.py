"""A server with a victim and a bystander, and the epilogue that every fault ends with."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import psutil

from tests.support.server import Server

MODELS = """
guide = false
[models.victim]
backend = "fake"
script = "{victim}"
slots = 4
[models.bystander]
backend = "fake"
script = "step=0.005"
slots = 4
"""
FIRST_CAUSE = "worker_died_first"
"""The log's event for the first death of a row."""


def config(victim: str = "step=0.01", extra: str = "", more: str = "") -> str:
    """`victim` is the script of its fake backend; `extra` is TOML before the models, `more` after them."""
    return extra + MODELS.format(victim=victim) + more


@dataclass(frozen=True)
class Inventory:
    """What must be again as it was before the fault."""

    fds: int
    threads: int
    children: int


class Stage:
    def __init__(self, server: Server, begins: str = "ready") -> None:
        """`begins`: the state in which the victim comes to rest after the start."""
        self.server = server.ready()
        self.begins = begins
        for model in ("victim", "bystander") if begins == "ready" else ("bystander",):
            server.loaded(model)
            assert self.asks(model)[0] == 200
        server.until(lambda: server.machine("model:victim")["state"], lambda state: state == begins, 60.0)
        self.before = self.inventory()

    def inventory(self) -> Inventory:
        process = psutil.Process(self.server.pid)
        return Inventory(process.num_fds(), process.num_threads(), len(process.children(recursive=True)))

    def asks(self, model: str, text: str = "well again", **fields: Any) -> tuple[int, Any]:
        """Status and body of one chat that is not streamed."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
        return self.server.post("/v1/chat/completions", body)

    def streams(self, model: str, text: str, **fields: Any) -> Iterator[dict[str, Any] | str]:
        """The events of one streamed chat; the last one is the text `[DONE]`."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": True, **fields}
        for data in self.server.events("/v1/chat/completions", body):
            yield data if data == "[DONE]" else json.loads(data)

    def worker(self, model: str = "victim") -> psutil.Process:
        return psutil.Process(self.server.worker(model))

    def signal(self, number: int, model: str = "victim") -> float:
        """Send a signal to a worker; when that was."""
        os.kill(self.server.worker(model), number)
        return time.monotonic()

    def first_causes(self) -> list[dict[str, Any]]:
        # a worker's own last words may stop in the middle of the line before
        told = [line[line.index("{") :] for line in self.server.log if f'"event": "{FIRST_CAUSE}"' in line]
        return [json.loads(line) for line in told]

    def epilogue(self, *, first_causes: int = 1, victim: str = "ready", slack: int = 2) -> None:
        """A good request on every other model, and on the victim if it is to be `ready`; fds, threads, children and
        slots as before; /readyz true; so many first causes in the log."""
        server = self.server
        status, answer = self.asks("bystander")
        assert (status, answer["choices"][0]["message"]["content"]) == (200, "well again"), answer
        server.until(lambda: server.machine("model:victim")["state"], lambda state: state == victim, 60.0)
        if victim == "ready":
            status, answer = self.asks("victim")
            assert (status, answer["choices"][0]["message"]["content"]) == (200, "well again"), answer
        gone = victim != "ready" == self.begins
        server.until(self.inventory, lambda now: self._settled(now, slack, gone=gone), 20.0)
        for model in ("victim", "bystander"):
            server.until(partial(self._left, model), lambda left: left == (0, 0), 10.0)
        server.until(lambda: server.get("/readyz")[0], lambda status: status == 200, 15.0)
        assert len(self.first_causes()) == first_causes, self.first_causes()

    def _settled(self, now: Inventory, slack: int, *, gone: bool) -> bool:
        """`gone`: the victim's worker is not expected to be there, nor its pipe and its two threads."""
        before = self.before
        fewer = 1 if gone else 0
        return (
            now.fds <= before.fds + slack
            and now.threads <= before.threads + slack
            and now.children == before.children - fewer
        )

    def _left(self, model: str) -> tuple[int, int]:
        """Sequences in flight, and tokens in the KV cache of running ones."""
        facts = self.server.machine(f"model:{model}")["facts"]
        return int(facts.get("in_flight") or 0), int(facts.get("kv_used") or 0)
