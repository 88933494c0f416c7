"""Several choices for one prompt, and what a reply tells beside them."""

import threading
from typing import Any

import pytest

from lmx.actors.messages import admission
from lmx.actors.messages.client import Accepted, Delta, Finished, Prefilled
from lmx.machines.types import CacheReport, Cut, Tokens, Usage
from tests.http.conftest import Served
from tests.http.test_openai_schema import chunks, validate
from tests.support.dummies import says, tells

HI: Any = [{"role": "user", "content": "Hi"}]
REPORT = CacheReport(3, 5, "changed", first_difference=3, message=1)
TOLD = {"cached_tokens": 3, "prompt_tokens": 5, "cause": "changed", "first_difference": 3, "message": 1}


def by_number(submit: admission.Submit, cancelled: threading.Event) -> None:
    """Each sequence says its own number; later ones know more of the prompt."""
    number = int(submit.request_id.rpartition("-")[2])
    says(str(number), prompt=5, cached=number)(submit, cancelled)


@pytest.mark.parametrize("stream", [False, True])
async def test_n_choices_are_n_sequences_of_one_request(served: Served, stream: bool) -> None:
    """Each has its index; the prompt is counted once, with what the first choice knew of it."""
    served.admission.script = by_number
    asked = {"model": "m", "messages": HI, "n": 3}
    if stream:
        got = await chunks(served, "/v1/chat/completions", asked)
        for chunk in got:
            validate(chunk, "CreateChatCompletionStreamResponse")
        spoken = [choice for chunk in got for choice in chunk["choices"] if choice["delta"].get("content")]
        texts = {choice["index"]: choice["delta"]["content"] for choice in spoken}
        usage = got[-1]["usage"]
    else:
        _, _, body = await served.post("/v1/chat/completions", asked)
        validate(body, "CreateChatCompletionResponse")
        texts = {choice["index"]: choice["message"]["content"] for choice in body["choices"]}
        usage = body["usage"]
    assert texts == {0: "0", 1: "1", 2: "2"}
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (5, 3, 8)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0
    assert len({submit.group for submit in served.admission.submits()}) == 1
    assert len(await served.admission.ends(3)) == 3


async def test_choices_are_ordered_by_prompt(served: Served) -> None:
    """index = prompt * n + choice; each prompt is counted once."""
    served.admission.script = by_number
    asked = {"model": "m", "prompt": [[1], [2]], "n": 2, "best_of": 2, "lmx_cache": True}
    _, _, body = await served.post("/v1/completions", asked)
    validate(body, "CreateCompletionResponse")
    assert [(choice["index"], choice["text"]) for choice in body["choices"]] == [(i, str(i)) for i in range(4)]
    sent = served.admission.generations()
    assert [generation.prompt for generation in sent] == [Tokens((1,)), Tokens((1,)), Tokens((2,)), Tokens((2,))]
    assert [generation.explain_cache for generation in sent] == [True, False, True, False]
    assert body["usage"]["prompt_tokens"] == 10
    assert body["usage"]["prompt_tokens_details"]["cached_tokens"] == 2


async def test_choices_of_one_seed_differ(served: Served) -> None:
    """Every choice has its own seed, and the first one that of a request for it alone."""
    await served.post("/v1/chat/completions", {"model": "m", "messages": HI, "n": 3, "seed": 2**63 - 2})
    seeds = [generation.sampling.seed for generation in served.admission.generations()]
    assert seeds == [2**63 - 2, 2**63 - 1, -(2**63)]


async def test_a_hundred_and_twenty_eight_choices(served: Served) -> None:
    """OpenAI's most."""
    _, _, body = await served.post("/v1/chat/completions", {"model": "m", "messages": HI, "n": 128})
    assert [choice["index"] for choice in body["choices"]] == list(range(128))


@pytest.mark.parametrize(
    ("asked", "answered", "priority"),
    [
        ({}, None, "interactive"),
        ({"service_tier": "auto"}, "default", "interactive"),
        ({"service_tier": "priority"}, "default", "interactive"),
        ({"service_tier": "flex"}, "flex", "batch"),
        ({"service_tier": "flex", "priority": "interactive"}, "default", "interactive"),
        ({"priority": "batch"}, None, "batch"),
    ],
)
async def test_the_reply_names_the_tier_that_was_honoured(
    served: Served, asked: Any, answered: str | None, priority: str
) -> None:
    """Only when one was asked for; flex is the class `batch`, no other one differs from the default."""
    _, _, body = await served.post("/v1/chat/completions", {"model": "m", "messages": HI, **asked})
    assert body.get("service_tier") == answered
    got = await chunks(served, "/v1/chat/completions", {"messages": HI, **asked})
    assert {chunk.get("service_tier") for chunk in got} == {answered}
    assert [generation.priority for generation in served.admission.generations()] == [priority] * 2


@pytest.mark.parametrize(("path", "asked"), [("chat/completions", {"messages": HI}), ("completions", {"prompt": "x"})])
async def test_what_was_known_and_what_was_cut_is_told(served: Served, path: str, asked: Any) -> None:
    """lmx_cache and lmx_truncated are in the reply, and in the finishing and the opening chunk."""
    accepted = Accepted(5, cut=Cut(2, 70))
    served.admission.script = tells(
        accepted, Prefilled(3, cache=REPORT), Prefilled(5), Delta("x"), Finished("stop", Usage(5, 1, 3))
    )
    _, _, body = await served.post(f"/v1/{path}", {"model": "m", "lmx_cache": True, "truncate": "oldest", **asked})
    assert body["lmx_cache"] == TOLD
    assert body["lmx_truncated"] == {"messages": 2, "tokens": 70}
    got = await chunks(served, f"/v1/{path}", {"lmx_cache": True, **asked})
    assert [chunk.get("lmx_truncated") for chunk in got] == [{"messages": 2, "tokens": 70}, None, None, None]
    assert [chunk.get("lmx_cache") for chunk in got] == [None, None, TOLD, None]


async def test_each_prompt_has_its_report(served: Served) -> None:
    """Several prompts: a list of reports in their order, and one sum of what was cut."""
    served.admission.script = tells(
        Accepted(5, cut=Cut(0, 7)), Prefilled(5, cache=REPORT), Finished("stop", Usage(5, 1))
    )
    _, _, body = await served.post("/v1/completions", {"model": "m", "prompt": ["a", "b"], "lmx_cache": True})
    assert body["lmx_cache"] == [TOLD, TOLD]
    assert body["lmx_truncated"] == {"messages": 0, "tokens": 14}


async def test_nothing_is_told_where_nothing_happened(served: Served) -> None:
    """No field of ours in an ordinary reply."""
    _, _, body = await served.post("/v1/chat/completions", {"model": "m", "messages": HI})
    assert not [name for name in body if name.startswith("lmx_")]


async def test_constraints_reach_the_model(served: Served) -> None:
    """A JSON schema in OpenAI's field, for every choice."""
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    await served.post("/v1/chat/completions", {"model": "m", "messages": HI, "n": 2, "response_format": form})
    constraints = [generation.constraint for generation in served.admission.generations()]
    assert [constraint.kind for constraint in constraints if constraint] == ["json_schema"] * 2
