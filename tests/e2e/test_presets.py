"""Presets, aliases with several models and a chat template of one's own, on a running server."""

from collections.abc import Iterator

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionUserMessageParam

from tests.support.server import Server

CONFIG = """
guide = false
[aliases]
best = ["broken", "main"]
[models.main]
backend = "fake"
[models.broken]
backend = "fake"
script = "fail_load=The file is damaged"
preload = false
[presets.coder]
model = "best"
system = "You write code."
max_tokens = 3
[presets.long]
model = "main"
context = 512
slots = 1
chat_template = "own.jinja"
"""
TEMPLATE = "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"
USER: ChatCompletionUserMessageParam = {"role": "user", "content": "one two three four five six seven"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("presets")
    (folder / "own.jinja").write_text(TEMPLATE)
    started = Server(folder, CONFIG).listen()
    yield started.ready()
    assert started.stop() == 0


@pytest.fixture
def openai(server: Server) -> Iterator[OpenAI]:
    with OpenAI(api_key="none", base_url=f"{server.url}/v1", max_retries=0) as client:
        yield client


def test_the_next_model_serves_and_is_named(openai: OpenAI) -> None:
    """The alias's first model is damaged: the client gets an answer, and learns from whom; so does one that streams."""
    raw = openai.chat.completions.with_raw_response.create(model="best", messages=[USER])
    assert raw.headers["x-lmx-model"] == "main"
    reply = raw.parse()
    assert (reply.model, reply.choices[0].finish_reason) == ("best", "stop")
    with openai.chat.completions.with_streaming_response.create(model="best", messages=[USER], stream=True) as streamed:
        assert streamed.headers["x-lmx-model"] == "main"
        assert "[DONE]" in streamed.read().decode()


def test_a_preset_of_the_alias_shares_its_models(server: Server, openai: OpenAI) -> None:
    """Its defaults hold, no further worker runs, and it is listed."""
    raw = openai.chat.completions.with_raw_response.create(model="preset:coder", messages=[USER])
    reply = raw.parse()
    assert (raw.headers["x-lmx-model"], reply.model) == ("main", "preset:coder")
    assert (reply.choices[0].finish_reason, reply.usage and reply.usage.completion_tokens) == ("length", 3)
    names = {machine["actor"] for machine in server.get("/admin/machines")[1]["machines"]}
    assert "model:preset:coder" not in names
    assert {model.id for model in openai.models.list()} == {"main", "broken", "best", "preset:coder", "preset:long"}


def test_a_preset_with_a_template_and_a_context_is_a_model(server: Server, openai: OpenAI) -> None:
    """A worker of its own, with its own template; the model that it was made of is as before."""
    status, shown = server.post("/apply-template", {"model": "preset:long", "messages": [USER]})
    assert (status, shown["prompt"]) == (200, f"<user>{USER['content']}")
    _, before = server.post("/apply-template", {"model": "main", "messages": [USER]})
    assert before["prompt"] != shown["prompt"]
    long = openai.models.retrieve("preset:long").to_dict()
    assert (long["context_length"], long["state"]) == (512, "ready")
    assert openai.models.retrieve("main").to_dict()["context_length"] != 512
    raw = openai.chat.completions.with_raw_response.create(model="preset:long", messages=[USER])
    assert raw.headers["x-lmx-model"] == "preset:long"
