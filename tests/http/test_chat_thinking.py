"""How a chat is to think, in every spelling that clients have."""

from typing import Any

import pytest

from lmx.machines.speech import Thinking
from lmx.machines.types import Chat
from tests.http.conftest import Served

CHAT = "/v1/chat/completions"


def asks(**fields: Any) -> Any:
    return {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields}


SPELLINGS: list[tuple[Any, Thinking, dict[str, Any]]] = [
    ({}, Thinking(), {}),
    *(({"reasoning_effort": effort}, Thinking(effort=effort), {}) for effort in ("none", "low", "xhigh", "max")),
    ({"enable_thinking": True, "thinking_budget": 0}, Thinking(enabled=True, budget=0), {}),
    ({"thinking": {"type": "enabled", "budget_tokens": 9}}, Thinking(enabled=True, budget=9), {}),
    ({"thinking": {"type": "disabled"}}, Thinking(enabled=False), {}),
    ({"chat_template_kwargs": {"enable_thinking": False, "tone": "kind"}}, Thinking(enabled=False), {"tone": "kind"}),
    (
        {"chat_template_kwargs": {"reasoning_effort": "high", "thinking_budget": 5, "thinking": True, "x": None}},
        Thinking(effort="high", budget=5),
        {"thinking": True},
    ),
    ({"enable_thinking": True, "chat_template_kwargs": {"enable_thinking": True}}, Thinking(enabled=True), {}),
]


@pytest.mark.parametrize(("sent", "thinking", "variables"), SPELLINGS)
async def test_every_spelling_means_the_same(
    served: Served, sent: Any, thinking: Thinking, variables: dict[str, Any]
) -> None:
    """OpenAI's field, Qwen's and vLLM's, and variables of the template; null counts as not given."""
    status, _, body = await served.post(CHAT, asks(**sent))
    assert status == 200, body
    (generation,) = served.admission.generations()
    assert isinstance(generation.prompt, Chat)
    assert (generation.prompt.thinking, generation.prompt.variables) == (thinking, variables)


BAD: list[tuple[Any, str, str, str]] = [
    ({"reasoning_effort": "huge"}, "invalid_value", "reasoning_effort", "'none', 'minimal', 'low'"),
    ({"enable_thinking": "yes"}, "invalid_type", "enable_thinking", "expected a boolean"),
    ({"thinking_budget": -1}, "integer_below_min_value", "thinking_budget", ">= 0, but got -1"),
    ({"thinking": {"type": "auto"}}, "invalid_value", "thinking.type", "'enabled', 'disabled'"),
    ({"thinking": True}, "invalid_type", "thinking", "expected an object"),
    ({"thinking": {"type": "disabled", "budget_tokens": 5}}, "unknown_parameter", "thinking.budget_tokens", ""),
    ({"chat_template_kwargs": []}, "invalid_type", "chat_template_kwargs", "expected an object"),
    (
        {"chat_template_kwargs": {"reasoning_effort": "much"}},
        "invalid_value",
        "chat_template_kwargs.reasoning_effort",
        "'none', 'minimal', 'low'",
    ),
    (
        {"chat_template_kwargs": {"messages": []}},
        "invalid_value",
        "chat_template_kwargs.messages",
        "cannot be set",
    ),
    (
        {"enable_thinking": True, "thinking": {"type": "disabled"}},
        "invalid_parameter_combination",
        "thinking",
        "'enable_thinking' and 'thinking' contradict each other.",
    ),
    (
        {"reasoning_effort": "low", "chat_template_kwargs": {"reasoning_effort": "high"}},
        "invalid_parameter_combination",
        "chat_template_kwargs.reasoning_effort",
        "contradict",
    ),
    ({"modalities": ["text", "audio"]}, "unsupported_parameter", "modalities", "only ['text'] is"),
    ({"modalities": {}}, "invalid_type", "modalities", "expected an array"),
    ({"modalities": ["smell"]}, "invalid_value", "modalities[0]", "'text', 'audio'"),
    ({"verbosity": "high"}, "unsupported_parameter", "verbosity", "only 'medium' is"),
    ({"verbosity": "loud"}, "invalid_value", "verbosity", "'low', 'medium', 'high'"),
    ({"prompt_cache_retention": "24h"}, "unsupported_parameter", "prompt_cache_retention", "only 'in_memory' is"),
]


@pytest.mark.parametrize(("sent", "code", "param", "text"), BAD)
async def test_what_cannot_be_is_refused_by_name(served: Served, sent: Any, code: str, param: str, text: str) -> None:
    status, _, body = await served.post(CHAT, asks(**sent))
    assert (status, body["error"]["code"], body["error"]["param"]) == (400, code, param), body
    assert text in body["error"]["message"]
    assert served.admission.messages == []


async def test_labels_and_what_changes_nothing_are_accepted(served: Served) -> None:
    """As OpenAI does: labels have no effect here, and values that mean what lmx does anyway are fine."""
    labels = {
        "store": True,
        "metadata": {"a": "b"},
        "user": "me",
        "safety_identifier": "x",
        "prompt_cache_key": "y",
        "service_tier": "auto",
        "modalities": ["text"],
        "verbosity": "medium",
        "prompt_cache_retention": "in_memory",
    }
    status, _, body = await served.post(CHAT, asks(**labels))
    assert status == 200, body
