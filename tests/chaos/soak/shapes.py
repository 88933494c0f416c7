"""The nine kinds of clients, after Triton's L0_long_running_stress. A step that raises is a failure."""

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.chaos.soak.client import Client, Wrong

CHAT = "/v1/chat/completions"
BACK_SECONDS = 30.0
"""After which a worker that was killed is to be replaced."""
MORTALS = ("mortal0", "mortal1", "mortal2")
"""Their workers are killed in turn: each is well for long enough, mostly, to have its earlier deaths forgotten."""
MODELS = ("steady", *MORTALS)
"""Fake ones: they answer with their prompt."""
GUIDE = "lmx-guide"


@dataclass(frozen=True)
class World:
    client: Client
    chance: Random
    models: tuple[str, ...]
    """All that are served."""

    def words(self, count: int) -> str:
        """Never the same twice."""
        return " ".join(f"{self.chance.getrandbits(32):08x}" for _ in range(count))


Step = Callable[[World], None]


@dataclass(frozen=True)
class Shape:
    name: str
    pause: float
    """Seconds between two steps, on the average."""
    step: Step


def short_chats(world: World) -> None:
    if GUIDE in world.models and world.chance.random() < 0.1:
        status, answer = world.client.ask(CHAT, chat(GUIDE, "What is lmx?", max_tokens=16))
        expect(status == 200 and bool(content(answer)), status, answer)
        return
    text = world.words(world.chance.randint(1, 4))
    status, answer = world.client.ask(CHAT, chat(world.chance.choice(MODELS), text))
    expect(status == 200 and content(answer) == text, status, answer)


def long_streams(world: World) -> None:
    text, told = world.words(world.chance.randint(20, 60)), ""
    events = list(world.client.events(CHAT, chat(world.chance.choice(MODELS), text, stream=True)))
    for data in events[:-1]:
        told += delta(data)
    expect(events[-1] == "[DONE]" and told == text, len(told), len(text), events[-2:])


def crashing_clients(world: World) -> None:
    """In the middle of its request, or of its answer."""
    body = json.dumps(chat(world.chance.choice(MODELS), world.words(40), stream=True)).encode()
    fields = f"Host: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    head = f"POST {CHAT} HTTP/1.1\r\n{fields}\r\n\r\n"
    if world.chance.random() < 0.5:
        world.client.crash(head.encode() + body[: world.chance.randrange(len(body))], 0)
    else:
        world.client.crash(head.encode() + body, world.chance.randrange(5000))


def cancels(world: World) -> None:
    events = world.client.events(CHAT, chat(world.chance.choice(MODELS), world.words(60), stream=True))
    with closing(events):
        for _ in range(world.chance.randrange(40)):
            next(events)


def tiny_timeouts(world: World) -> None:
    body = chat("steady", world.words(200), stream=world.chance.random() < 0.5)
    hurry = {"x-request-timeout": "1"}
    if body["stream"]:
        *_, last, done = world.client.events(CHAT, body, hurry)
        expect(done == "[DONE]" and json.loads(last)["error"]["code"] == "timeout", last)
    else:
        status, answer = world.client.ask(CHAT, body, hurry)
        expect(status == 504 and answer["error"]["code"] == "timeout", status, answer)


def completions(world: World) -> None:
    prompts = [world.words(world.chance.randint(1, 3)) for _ in range(world.chance.randint(1, 3))]
    body = {"model": world.chance.choice(MODELS), "prompt": prompts, "max_tokens": 100}
    status, answer = world.client.ask("/v1/completions", body)
    expect(status == 200 and [choice["text"] for choice in answer["choices"]] == prompts, status, answer)


BAD: tuple[dict[str, Any], ...] = (
    {"body": b"{"},
    {"body": b"\xff\xfe"},
    {"body": b"[" * 5000},
    {"body": {"model": "steady"}},
    {"body": {"model": "steady", "messages": []}},
    {"body": {"model": "nobody", "messages": [{"role": "user", "content": "x"}]}},
    {"body": {"model": "steady", "messages": [{"role": "king", "content": "x"}]}},
    {"body": {"model": "steady", "messages": [{"role": "user", "content": "x"}], "temperature": 99}},
    {"body": {"model": "steady", "messages": [{"role": "user", "content": "x"}], "n": 0}},
    {"body": {"model": "steady", "messages": [{"role": "user", "content": "x" * 20_000}]}},
    {
        "body": {"model": "steady", "messages": [{"role": "user", "content": "x"}]},
        "headers": {"x-request-timeout": "?"},
    },
    {"path": "/v1/nothing"},
    {"path": "/v1/models/nobody"},
    {"path": "/v1/models", "method": "DELETE"},
)


def bad_requests(world: World) -> None:
    request = world.chance.choice(BAD)
    status, answer = world.client.ask(**{"path": CHAT, **request})
    expect(400 <= status < 500 and bool(answer["error"]["message"]), status, answer, str(request)[:80])
    expect(len(json.dumps(answer)) <= 4096, "a long answer to", str(request)[:80])


def admins(world: World) -> None:
    """`fleeting` is loaded again whatever else its clients see."""
    text = world.words(20)
    for command in ("unload", "load"):
        status, answer = world.client.ask(f"/admin/models/fleeting/{command}", b"")
        expect(status == 200, command, status, answer)
    status, answer = world.client.ask(CHAT, chat("fleeting", text))
    expect(status == 200 and content(answer) == text, status, answer)


def killed_workers(world: World) -> None:
    model = min(MORTALS, key=lambda name: machine(world.client, name)["since"])
    before = machine(world.client, model)["facts"]["pid"]
    os.kill(before, signal.SIGKILL)
    until = time.monotonic() + BACK_SECONDS
    while (now := machine(world.client, model))["state"] != "ready" or now["facts"]["pid"] == before:
        expect(time.monotonic() < until, model, "lost its worker, and it is", now["state"], now["reason"])
        time.sleep(0.2)


SHAPES = (
    Shape("short chats", 1.0, short_chats),
    Shape("long streams", 1.0, long_streams),
    Shape("crashing clients", 2.0, crashing_clients),
    Shape("cancels", 2.0, cancels),
    Shape("tiny time-outs", 4.0, tiny_timeouts),
    Shape("completions", 2.0, completions),
    Shape("bad requests", 1.0, bad_requests),
    Shape("loads and unloads", 15.0, admins),
    Shape("killed workers", 60.0, killed_workers),
)


def chat(model: str, text: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


def content(answer: Any) -> Any:
    return answer["choices"][0]["message"]["content"]


def delta(data: str) -> str:
    choices = json.loads(data)["choices"]
    return str(choices[0]["delta"].get("content") or "") if choices else ""


def machine(client: Client, model: str) -> dict[str, Any]:
    machines = client.ask("/admin/machines")[1]["machines"]
    return next(one for one in machines if one["actor"] == f"model:{model}")


def expect(good: bool, *found: object) -> None:
    if not good:
        raise Wrong(" ".join(str(one)[:300] for one in found))
