"""A worker dies: who notices, how soon, and what is told."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable

import openai
import pytest

from tests.support.server import Server

Serve = Callable[..., Server]

TWO = """
guide = false
[models.victim]
backend = "fake"
script = "step=0.01"
[models.bystander]
backend = "fake"
script = "step=0.01"
"""


def both(serve: Serve) -> Server:
    """A server whose two models are ready."""
    server = serve(TWO).ready()
    for model in ("victim", "bystander"):
        server.loaded(model)
    return server


def chat(model: str, text: str, **fields: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


def stream(server: Server, model: str, text: str, seen: list[tuple[float, str]], begun: threading.Event) -> None:
    """Collect (time, data) of a stream's events; sets `begun` at the first text."""
    for data in server.events("/v1/chat/completions", chat(model, text, stream=True)):
        seen.append((time.monotonic(), data))
        if data != "[DONE]" and any(choice["delta"].get("content") for choice in json.loads(data).get("choices", [])):
            begun.set()


def test_kill_9_in_mid_stream(serve: Serve) -> None:
    """The stream ends in an error event within 1 s, the other model's stream is whole, and all is well again."""
    server = both(serve)
    seen: dict[str, list[tuple[float, str]]] = {"victim": [], "bystander": []}
    begun = {"victim": threading.Event(), "bystander": threading.Event()}
    texts = {"victim": "x" * 3000, "bystander": "y" * 200}
    threads = [
        threading.Thread(target=stream, args=(server, model, text, seen[model], begun[model]))
        for model, text in texts.items()
    ]
    for thread in threads:
        thread.start()
    assert all(event.wait(20) for event in begun.values())
    os.kill(server.worker("victim"), signal.SIGKILL)
    killed = time.monotonic()
    for thread in threads:
        thread.join(30)

    *_, (at, error), (_, done) = seen["victim"]
    assert done == "[DONE]"
    assert json.loads(error)["error"]["code"] == "worker_died"
    assert at - killed < 1.0

    text = "".join(
        choice["delta"].get("content") or ""
        for _, data in seen["bystander"]
        if data != "[DONE]"
        for choice in json.loads(data)["choices"]
    )
    assert text == texts["bystander"]

    server.until(lambda: server.machine("model:victim"), lambda machine: machine["state"] == "ready")
    story = [
        (moved["source"], moved["target"], moved["reason"])
        for moved in server.get("/admin/machines")[1]["transitions"]
        if moved["actor"] == "model:victim"
    ]
    assert ("ready", "backoff", "The worker was killed (SIGKILL).") in story
    assert [target for _, target, _ in story[-6:]] == ["backoff", "queued", "loading", "warming", "canary", "ready"]
    status, answer = server.post("/v1/chat/completions", chat("victim", "well again"))
    assert (status, answer["choices"][0]["message"]["content"]) == (200, "well again")


def test_the_official_client_sees_an_error_not_a_short_answer(serve: Serve) -> None:
    """A stream that was cut raises APIError in the openai client: nobody takes half an answer for a whole one."""
    server = both(serve)
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
    chunks = client.chat.completions.create(
        model="victim", messages=[{"role": "user", "content": "x" * 3000}], stream=True
    )
    got = next(text for chunk in chunks if (text := chunk.choices[0].delta.content))
    os.kill(server.worker("victim"), signal.SIGKILL)
    with pytest.raises(openai.APIError, match="SIGKILL"):
        got += "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert set(got) == {"x"}


def test_without_a_stream_it_is_a_500_in_the_envelope(serve: Serve) -> None:
    """A request that was taken and whose worker died is answered, not reset."""
    server = both(serve)
    answers: list[tuple[int, dict[str, dict[str, str]]]] = []
    asking = threading.Thread(
        target=lambda: answers.append(server.post("/v1/chat/completions", chat("victim", "x" * 3000)))
    )
    asking.start()
    server.until(lambda: server.machine("model:victim")["facts"]["in_flight"], lambda count: count == 1)
    os.kill(server.worker("victim"), signal.SIGKILL)
    asking.join(20)
    [(status, body)] = answers
    assert status == 500
    assert body["error"]["code"] == "worker_died"
    assert body["error"]["type"] == "server_error"
