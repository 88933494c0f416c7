"""A worker dies: clients are answered all the same, and what kills workers is found out and kept away."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.support.asking import FILES, guide
from tests.support.server import Server

Serve = Callable[..., Server]

TWO = """
guide = false
[models.victim]
backend = "fake"
script = "step=0.01; poison=arsenic"
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


def restarted(server: Server, model: str, times: int) -> None:
    def again(machine: dict[str, Any]) -> bool:
        return bool(machine["state"] == "ready" and machine["facts"]["restarts"] == times)

    server.until(lambda: server.machine(f"model:{model}"), again)


class Stream(threading.Thread):
    """A streamed chat, read as it comes."""

    def __init__(self, server: Server, model: str, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[float, str]] = []
        """When each event came, and its data."""
        self._arguments = (server, model, text)
        self._changed = threading.Condition()
        self.start()

    def run(self) -> None:
        server, model, text = self._arguments
        for data in server.events("/v1/chat/completions", chat(model, text, stream=True)):
            with self._changed:
                self.seen.append((time.monotonic(), data))
                self._changed.notify_all()

    @property
    def text(self) -> str:
        chunks = [json.loads(data) for _, data in self.seen if data != "[DONE]"]
        return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", ()))

    def reaches(self, characters: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.text) >= characters, 20)

    def end(self) -> list[tuple[float, str]]:
        self.join(30)
        assert not self.is_alive()
        return self.seen


def test_kill_9_in_mid_stream(serve: Serve) -> None:
    """The stream goes on in the next worker and is whole, the other model's too, and all is well again."""
    server = both(serve)
    victim, bystander = Stream(server, "victim", "x" * 200), Stream(server, "bystander", "y" * 200)
    victim.reaches(1)
    bystander.reaches(1)
    os.kill(server.worker("victim"), signal.SIGKILL)
    for stream, text in ((victim, "x" * 200), (bystander, "y" * 200)):
        assert stream.end()[-1][1] == "[DONE]"
        assert stream.text == text
    story = [
        (moved["source"], moved["target"], moved["reason"])
        for moved in server.get("/admin/machines")[1]["transitions"]
        if moved["actor"] == "model:victim"
    ]
    assert ("ready", "backoff", "The worker was killed (SIGKILL).") in story
    assert [target for _, target, _ in story[-6:]] == ["backoff", "queued", "loading", "warming", "canary", "ready"]
    status, answer = server.post("/v1/chat/completions", chat("victim", "well again"))
    assert (status, answer["choices"][0]["message"]["content"]) == (200, "well again")


def test_without_a_stream_it_is_the_whole_answer(serve: Serve) -> None:
    """Text and usage are those of a request that nothing happened to."""
    server = both(serve)
    answers: list[tuple[int, dict[str, Any]]] = []
    asking = threading.Thread(
        target=lambda: answers.append(server.post("/v1/chat/completions", chat("victim", "x" * 100)))
    )
    asking.start()
    server.until(lambda: server.machine("model:victim")["facts"]["in_flight"], lambda count: count == 1)
    os.kill(server.worker("victim"), signal.SIGKILL)
    asking.join(20)
    [(status, body)] = answers
    assert status == 200
    assert body["choices"][0]["message"]["content"] == "x" * 100
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (100, 101)


def test_the_second_death_is_told_at_once(serve: Serve) -> None:
    """The stream ends in an error event and [DONE] within 1 s of it: half an answer is not a whole one."""
    server = both(serve)
    stream = Stream(server, "victim", "x" * 3000)
    stream.reaches(1)
    os.kill(server.worker("victim"), signal.SIGKILL)
    restarted(server, "victim", 1)
    stream.reaches(len(stream.text) + 1)
    os.kill(server.worker("victim"), signal.SIGKILL)
    killed = time.monotonic()
    *_, (at, error), (_, done) = stream.end()
    assert done == "[DONE]"
    assert json.loads(error)["error"]["code"] == "worker_died"
    assert at - killed < 1.0
    assert set(stream.text) == {"x"}
    restarted(server, "victim", 2)


def test_a_poison_costs_two_workers_and_is_then_refused(serve: Serve) -> None:
    """The official client, which retries what fails, is told not to; the request is refused, others are served."""
    server = both(serve)
    innocent = Stream(server, "victim", "innocent " * 40)
    innocent.reaches(1)
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none")
    deadly: Any = [{"role": "user", "content": "a bottle of arsenic"}]
    with pytest.raises(openai.InternalServerError) as failed:
        client.chat.completions.create(model="victim", messages=deadly)
    assert failed.value.code == "worker_died"
    assert failed.value.response.headers["x-should-retry"] == "false"
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="victim", messages=deadly)
    assert refused.value.code == "request_quarantined"
    assert " s." in str(refused.value)
    innocent.end()
    assert innocent.text == "innocent " * 40
    restarted(server, "victim", 2)


def test_the_official_client_sees_an_error_not_a_short_answer(serve: Serve) -> None:
    """A stream that cannot go on raises APIError in the openai client."""
    server = both(serve)
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
    chunks = client.chat.completions.create(
        model="victim", messages=[{"role": "user", "content": "x" * 3000}], stream=True
    )
    got = next(text for chunk in chunks if (text := chunk.choices[0].delta.content))
    os.kill(server.worker("victim"), signal.SIGKILL)
    restarted(server, "victim", 1)
    os.kill(server.worker("victim"), signal.SIGKILL)
    with pytest.raises(openai.APIError, match="SIGKILL"):
        got += "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert set(got) == {"x"}


@pytest.mark.parametrize("name", FILES)
def test_a_real_model_says_what_it_would_have_said(serve: Serve, name: str) -> None:
    """Killed in mid-stream, the text that the official client reads is the undisturbed one, and so is its cost."""
    server = serve("guide = false\n" + guide(name, FILES[name], context=1024, slots=4)).ready()
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)

    def told(kill: int) -> tuple[str, int]:
        text, cost = "", 0
        for chunk in client.chat.completions.create(
            model=name,
            messages=[{"role": "user", "content": "What is lmx?"}],
            temperature=0,
            max_tokens=500,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"ignore_eos": True},
        ):
            new = chunk.choices[0].delta.content if chunk.choices else ""
            cost = chunk.usage.completion_tokens if chunk.usage else 0
            if new and not text and kill:
                os.kill(kill, signal.SIGKILL)
            text += new or ""
        return text, cost

    whole = told(0)
    assert whole[1] == 500
    assert told(server.worker(name)) == whole
    restarted(server, name, 1)
