"""`model: "preset:NAME"`: a model with defaults of its own."""

from typing import Any

import pytest

from lmx.actors.messages.client import Accepted, Delta, Finished
from lmx.http.presets import Preset, applied, completed, sampled
from lmx.http.sampling import SamplingFields
from lmx.machines.speech import Thinking
from lmx.machines.tasks import Rendering
from lmx.machines.types import Chat, Generation, Sampling, Text, Usage
from tests.http.conftest import Serve, Served
from tests.support.dummies import tells
from tests.support.inbox import Inbox

CODER = Preset(
    model="m",
    base="m",
    defaults={"temperature": 0.2, "min_p": 0.1, "max_tokens": 7, "stop": ["END"]},
    system="You write code.",
    thinking=Thinking(budget=64),
)
USER = {"role": "user", "content": "Hello"}


@pytest.fixture
async def presets(serve: Serve) -> Served:
    plain = Preset(model="m", base="m", defaults={"temperature": 0.2, "max_tokens": 7})
    return await serve(presets={"preset:coder": CODER, "preset:plain": plain})


async def generation(served: Served, path: str, **body: Any) -> Generation:
    """What the model is asked for by a request that succeeds."""
    status, _, reply = await served.post(path, body)
    assert status == 200, reply
    return served.admission.generations()[-1]


async def test_a_chat_gets_what_it_does_not_say(presets: Served) -> None:
    """Sampling, limit, stop, system prompt and thoughts; the reply names the model as the request did."""
    status, _, reply = await presets.post("/v1/chat/completions", {"model": "preset:coder", "messages": [USER]})
    assert (status, reply["model"]) == (200, "preset:coder")
    asked = presets.admission.generations()[-1]
    assert (asked.sampling.temperature, asked.sampling.min_p, asked.max_tokens, asked.stop) == (0.2, 0.1, 7, ("END",))
    assert isinstance(asked.prompt, Chat)
    assert asked.prompt.messages == ({"role": "system", "content": "You write code."}, USER)
    assert asked.prompt.thinking.budget == 64
    assert presets.admission.submits()[-1].model == "m"


async def test_what_a_request_says_wins(presets: Served) -> None:
    """Each field for itself, also one that says what is the default without a preset; so does its system message."""
    messages = [{"role": "developer", "content": "Be brief."}, USER]
    body = {"messages": messages, "temperature": 1.0, "min_p": 0.0, "max_completion_tokens": 3, "stop": "HALT"}
    asked = await generation(presets, "/v1/chat/completions", model="preset:coder", **body)
    assert (asked.sampling.temperature, asked.sampling.min_p, asked.max_tokens, asked.stop) == (1.0, 0.0, 3, ("HALT",))
    assert isinstance(asked.prompt, Chat)
    assert [message["content"] for message in asked.prompt.messages] == ["Be brief.", "Hello"]


async def test_null_is_not_said(presets: Served) -> None:
    """Clients send null for what they do not set."""
    body = {"model": "preset:coder", "messages": [USER], "temperature": None, "max_tokens": None}
    asked = await generation(presets, "/v1/chat/completions", **body)
    assert (asked.sampling.temperature, asked.max_tokens) == (0.2, 7)


async def test_a_completion_gets_the_sampling(presets: Served) -> None:
    """Its own default of 16 tokens gives way too."""
    asked = await generation(presets, "/v1/completions", model="preset:plain", prompt="Once")
    assert (asked.sampling.temperature, asked.max_tokens) == (0.2, 7)


async def test_a_text_has_no_place_for_a_system_prompt(presets: Served) -> None:
    """It is not left out silently: the request is refused, and nothing is generated."""
    status, _, reply = await presets.post("/v1/completions", {"model": "preset:coder", "prompt": "Once"})
    assert (status, reply["error"]["param"]) == (400, "model")
    assert "system prompt" in reply["error"]["message"]
    assert presets.admission.submits() == []


async def test_the_other_apis_know_presets_too(presets: Served) -> None:
    """Anthropic's route has fewer fields, and honours all of the preset; so does Responses."""
    asked = await generation(presets, "/v1/messages", model="preset:coder", max_tokens=9, messages=[USER])
    assert (asked.sampling.temperature, asked.sampling.min_p, asked.max_tokens, asked.stop) == (0.2, 0.1, 9, ("END",))
    assert isinstance(asked.prompt, Chat)
    assert asked.prompt.messages[0]["content"] == "You write code."
    asked = await generation(presets, "/v1/responses", model="preset:coder", input="Hello", store=False)
    assert (asked.sampling.temperature, asked.sampling.min_p, asked.max_tokens, asked.stop) == (0.2, 0.1, 7, ("END",))
    assert isinstance(asked.prompt, Chat)
    assert asked.prompt.messages[0]["content"] == "You write code."


async def test_an_unknown_preset_is_no_model(presets: Served) -> None:
    """404, as for any other name."""
    status, _, reply = await presets.post("/v1/chat/completions", {"model": "preset:nobody", "messages": [USER]})
    assert (status, reply["error"]["code"]) == (404, "model_not_found")


async def test_the_reply_tells_which_model_served(presets: Served) -> None:
    """`x-lmx-model` on answers and streams: the model itself, whatever it was called."""
    presets.admission.script = tells(Accepted(5, model="m"), Delta("Hi"), Finished("stop", Usage(5, 1)))
    body = {"model": "preset:coder", "messages": [USER]}
    _, headers, _ = await presets.post("/v1/chat/completions", body)
    assert headers["x-lmx-model"] == "m"
    async with presets.http.post("/v1/chat/completions", json=body | {"stream": True}) as reply:
        assert reply.headers["x-lmx-model"] == "m"
        await reply.read()


async def test_an_alias_tells_who_took_the_request(serve: Serve) -> None:
    """Which of its models that is, is known when one has taken it; a name that is no plain text is written plainly."""
    served = await serve(models=("m", "größer"), aliases={"best": Inbox()})
    served.admission.script = tells(Accepted(5, model="größer"), Delta("Hi"), Finished("stop", Usage(5, 1)))
    _, headers, reply = await served.post("/v1/chat/completions", {"model": "best", "messages": [USER]})
    assert (headers["x-lmx-model"], reply["model"]) == ("gr%C3%B6%C3%9Fer", "best")


@pytest.mark.parametrize(
    ("asked", "usual", "told"),
    [
        (Thinking(), Thinking(enabled=True, budget=9), Thinking(enabled=True, budget=9)),
        (Thinking(enabled=False), Thinking(effort="high", budget=9), Thinking(enabled=False)),
        (Thinking(effort="none"), Thinking(effort="high"), Thinking(effort="none")),
        (Thinking(budget=3), Thinking(enabled=True, budget=9), Thinking(enabled=True, budget=3)),
        (Thinking(enabled=True), Thinking(enabled=False), Thinking(enabled=True)),
        (Thinking(effort="low"), Thinking(enabled=False), Thinking(effort="low")),
    ],
)
def test_thoughts_are_those_that_the_request_asks_for(asked: Thinking, usual: Thinking, told: Thinking) -> None:
    """Who wants none gets none; who says how much wants some; what is not said is as usual."""
    chat = Chat((USER,), thinking=asked)
    done = completed(Generation(prompt=chat), Preset(model="m", base="m", thinking=usual))
    assert isinstance(done, Generation)
    assert isinstance(done.prompt, Chat)
    assert done.prompt.thinking == told


def test_a_rendering_shows_the_prompt_that_a_chat_gets() -> None:
    """What is counted or shown is what would be generated from."""
    done = completed(Rendering(Chat((USER,)), "text"), CODER)
    assert isinstance(done, Rendering)
    assert isinstance(done.source, Chat)
    assert done.source.messages[0]["role"] == "system"
    assert completed(Rendering(Text("x"), "tokens"), CODER) == Rendering(Text("x"), "tokens")


def test_without_a_preset_nothing_changes() -> None:
    """The usual case."""
    task, given = Generation(prompt=Text("x")), {"model": "m"}
    assert completed(task, None) is task
    assert sampled(task, None, SamplingFields()) is task
    assert applied(given, None, SamplingFields) is given


def test_a_list_of_breakers_is_taken_as_the_engine_has_it() -> None:
    """Values of the config become those of `Sampling`."""
    preset = Preset(model="m", base="m", defaults={"dry_sequence_breakers": ["\n"], "max_tokens": 3})
    done = sampled(Generation(prompt=Text("x")), preset, SamplingFields())
    assert done.sampling == Sampling(dry_sequence_breakers=("\n",))
