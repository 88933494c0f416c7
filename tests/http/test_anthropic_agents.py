"""What coding agents and the client's own helpers send to /v1/messages, in the first minutes and after hours."""

import json
import threading
from typing import Any

import anthropic
import pytest
from anthropic import beta_async_tool

from lmx.actors.messages.admission import Submit
from lmx.actors.messages.client import Accepted, Delta, Finished, Refused, Rendered
from lmx.http.presets import Preset
from lmx.machines.speech import Speech, Thinking
from lmx.machines.tasks import Rendering
from lmx.machines.types import Chat, Generation, Refusal, RefusalKind, Usage
from tests.http.conftest import Serve, Served
from tests.support.dummies import tells

PATH = "/v1/messages"
HI: Any = [{"role": "user", "content": "Hi"}]
ASK: Any = {"model": "m", "max_tokens": 9, "messages": HI}
READ: Any = {"name": "read", "description": "Read a file.", "input_schema": {"type": "object", "properties": {}}}
USE: Any = {"type": "tool_use", "id": "t1", "name": "read", "input": {}}
SPEECH = Speech(calls="hermes", thoughts="think")
EAGER = "fine-grained-tool-streaming-2025-05-14"
CUT = '<tool_call>\n{"name": "read", "arguments": {"path": "a.'


def result(*content: Any) -> Any:
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": list(content)}]}


def counts(submit: Submit, _: threading.Event) -> None:
    """A prompt has 20 tokens, and 30 as long as its first thought is there."""
    asked = submit.generation
    chat = asked.source if isinstance(asked, Rendering) else asked.prompt if isinstance(asked, Generation) else None
    assert isinstance(chat, Chat)
    whole = any(said.get("reasoning_content") == "a" for said in chat.messages)
    answer = Rendered(tuple(range(30 if whole else 20)), "") if isinstance(asked, Rendering) else Accepted(20)
    for event in (answer, Finished("stop", Usage(20, 0))):
        submit.reply_to.tell(event)


def thought(text: str, *more: Any) -> Any:
    """An assistant's message; some clients lose the signature."""
    return {"role": "assistant", "content": [{"type": "thinking", "thinking": text}, *more]}


CLEARED = {"type": "clear_thinking_20251015", "cleared_thinking_turns": 1, "cleared_input_tokens": 10}
THOUGHTS: Any = [*HI, thought("a"), *HI, thought("b", USE), result(), thought("c"), *HI]


async def chat(served: Served, **change: Any) -> Chat:
    """What the model is asked for."""
    status, _, reply = await served.post(f"{PATH}?beta=true", ASK | change)
    assert status == 200, reply
    asked = served.admission.generations()[-1].prompt
    assert isinstance(asked, Chat)
    return asked


async def refusal(served: Served, **change: Any) -> str:
    status, _, reply = await served.post(PATH, ASK | change)
    assert status == 400, reply
    return str(reply["error"]["message"])


async def test_the_tool_runner_does_without_a_thread(served: Served) -> None:
    """It asks for one first, and goes on when it is told in the words that it knows that there is none."""

    @beta_async_tool
    async def read() -> str:
        """Read a file."""
        return "text"

    served.admission.script = tells(Accepted(10), Delta("Hello"), Finished("stop", Usage(10, 1)))
    async with anthropic.AsyncAnthropic(
        api_key="any", base_url=f"http://127.0.0.1:{served.port}", max_retries=0
    ) as client:
        runner = client.beta.messages.tool_runner(model="m", max_tokens=9, messages=HI, tools=[read])
        assert [message.stop_reason async for message in runner] == ["end_turn"]
    _, _, reply = await served.post(PATH, ASK | {"thread": {"type": "create"}})
    assert reply["error"]["details"] == {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}


@pytest.mark.parametrize(
    ("edit", "kept"),
    [
        (None, ["a", "b", "c"]),
        ({"keep": "all"}, ["a", "b", "c"]),
        ({"keep": {"type": "all"}}, ["a", "b", "c"]),
        ({"keep": {"type": "thinking_turns", "value": 2}}, ["a", "b", "c"]),
        ({"keep": {"type": "thinking_turns", "value": 1}}, [None, "b", "c"]),
        ({}, [None, "b", "c"]),
    ],
)
async def test_old_thoughts_are_cleared(served: Served, edit: Any, kept: list[str | None]) -> None:
    """Agents ask for that after a pause. A round with calls counts once, and one is kept where no number is given."""
    served.admission.script = counts
    edits = [{"type": "clear_thinking_20251015"} | edit] if edit is not None else []
    asked = await chat(served, messages=THOUGHTS, tools=[READ], context_management={"edits": edits})
    assert [said.get("reasoning_content") for said in asked.messages if said["role"] == "assistant"] == kept


@pytest.mark.parametrize(("rounds", "applied"), [(3, []), (1, [CLEARED])])
async def test_what_edits_left_out_is_told(served: Served, rounds: int, applied: Any) -> None:
    """By the message, by its last delta and by a count: Anthropic's clients show it. Without edits it is not there."""
    served.admission.script = counts
    edit = {"type": "clear_thinking_20251015", "keep": {"type": "thinking_turns", "value": rounds}}
    body = ASK | {"messages": THOUGHTS, "tools": [READ], "context_management": {"edits": [edit]}}
    _, _, reply = await served.post(f"{PATH}?beta=true", body)
    assert reply["context_management"] == {"applied_edits": applied}
    async with served.http.post(PATH, json=body | {"stream": True}) as streamed:
        events = [json.loads(line[6:]) async for line in streamed.content if line.startswith(b"data: ")]
    (delta,) = [event for event in events if event["type"] == "message_delta"]
    assert delta["context_management"] == {"applied_edits": applied}
    question = {name: value for name, value in body.items() if name != "max_tokens"}
    _, _, count = await served.post(f"{PATH}/count_tokens", question)
    assert count == {"input_tokens": 20 if applied else 30, "context_management": {"original_input_tokens": 30}}
    assert "context_management" not in (await served.post(PATH, ASK))[2]


@pytest.mark.parametrize(
    ("thinking", "effort", "asked"),
    [
        (None, "low", Thinking(effort="low", hint=True)),
        ({"type": "adaptive"}, "medium", Thinking(effort="medium", hint=True)),
        ({"type": "adaptive"}, "high", Thinking()),
        ({"type": "disabled"}, "low", Thinking(budget=0)),
        ({"type": "enabled", "budget_tokens": 8}, "low", Thinking(enabled=True, effort="low", budget=8)),
    ],
)
async def test_an_effort_asks_for_no_thoughts(served: Served, thinking: Any, effort: str, asked: Thinking) -> None:
    """It says how many there may be: so it goes with thoughts that are off, and with a model that has none."""
    assert (await chat(served, thinking=thinking, output_config={"effort": effort})).thinking == asked


async def test_a_preset_without_thoughts_stays_without(serve: Serve) -> None:
    """An effort alone is no wish to think."""
    served = await serve(presets={"preset:fast": Preset(model="m", base="m", thinking=Thinking(enabled=False))})
    asked = await chat(served, model="preset:fast", output_config={"effort": "low"})
    assert asked.thinking == Thinking(enabled=False, effort="low", hint=True)


async def test_what_the_system_says_behind_the_first_question(served: Served) -> None:
    """Belongs to its prompt: a model that finds it there takes it for the question. Later it stays where it is said."""
    said = {"role": "system", "content": "Tools: x."}
    later = {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
    turns = [*HI, said, {"role": "user", "content": "Go."}, {"role": "assistant", "content": "Yes."}, *HI, later]
    asked = await chat(served, messages=turns, system="You are x.")
    assert [(message["role"], message["content"]) for message in asked.messages] == [
        ("system", "You are x.\nTools: x."),
        ("user", "Hi\nGo."),
        ("assistant", "Yes."),
        ("user", "Hi"),
        ("system", "Be brief."),
    ]
    assert (await refusal(served, messages=[*HI, {"role": "system", "content": ""}])).startswith("messages.1: ")
    thinks = {"role": "system", "content": [{"type": "thinking", "thinking": "x"}]}
    assert (await refusal(served, messages=[*HI, thinks])).startswith("messages.1.content.0: ")


async def test_texts_come_in_documents_too(served: Served) -> None:
    """Of users and of tools; PDF is refused by its place."""
    plain = {"type": "text", "media_type": "text/plain", "data": "Text."}
    document = {"type": "document", "source": plain, "title": "T", "citations": {"enabled": False}}
    content = {"type": "content", "content": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]}
    hit = {"type": "search_result", "source": "S", "title": "T", "content": [{"type": "text", "text": "Found."}]}
    turns = [
        {"role": "user", "content": [document, {"type": "text", "text": "Read it."}]},
        {"role": "assistant", "content": [USE]},
        result({"type": "document", "source": content}, hit),
    ]
    asked = await chat(served, messages=turns, tools=[READ])
    found = "<search_result>\n<source>S</source>\n<title>T</title>\nFound.\n</search_result>"
    assert [said["content"] for said in asked.messages] == [
        "<document>\n<title>T</title>\nText.\n</document>\nRead it.",
        "",
        f"<document>\nOne.\nTwo.\n</document>\n{found}",
    ]
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}}
    told = await refusal(served, messages=[{"role": "user", "content": [pdf]}])
    assert told.startswith("messages.0.content.0.document.source.type: Input tag 'base64'")
    assert told.endswith(
        "'text', 'content'. No PDF is read here: send its text, and leave it out of the conversation from now on"
    )


async def test_a_deferred_tool_is_offered_once_it_was_found(served: Served) -> None:
    """Until a result refers to it, the model is not told of it; what is not there cannot be found."""
    tools = [READ | {"name": "late", "defer_loading": True}, READ, READ | {"name": "later", "defer_loading": True}]
    asked = await chat(served, tools=tools)
    assert [tool["function"]["name"] for tool in asked.tools] == ["read"]
    turns = [*HI, {"role": "assistant", "content": [USE]}, result({"type": "tool_reference", "tool_name": "later"})]
    asked = await chat(served, tools=tools, messages=turns)
    assert [tool["function"]["name"] for tool in asked.tools] == ["read", "later"]
    assert asked.messages[-1]["content"] == "later is now one of your tools."
    told = await refusal(served, tools=tools[:2], messages=turns)
    assert told == "messages.2.content.0.tool_result.content.0: Tool reference 'later' not found in available tools"
    assert (await refusal(served, tools=tools[:1])).startswith("tools: At least one tool")
    assert (await refusal(served, tools=[*tools[:2], READ | {"name": "a b"}])).startswith("tools.2.name: ")


async def test_what_is_wrong_with_a_tool_is_told_of_that_tool(served: Served) -> None:
    """The model counts only those that it is told of."""
    refused = Refusal(RefusalKind.UNSUPPORTED, "No.", param="tools[1].function.parameters")
    served.admission.script = tells(Refused(refused))
    tools = [READ | {"name": "late", "defer_loading": True}, READ, READ | {"name": "later", "defer_loading": True}]
    turns = [*HI, {"role": "assistant", "content": [USE]}, result({"type": "tool_reference", "tool_name": "later"})]
    assert await refusal(served, tools=tools, messages=turns) == "tools.2.input_schema: No."
    assert await refusal(served, tools=[READ, READ | {"name": "b"}]) == "tools.1.input_schema: No."


async def test_a_model_that_cannot_but_think(served: Served) -> None:
    """Where an answer was begun for it, that is named, and what to do: the request said nothing of `thinking`."""
    served.admission.script = tells(Refused(Refusal(RefusalKind.UNSUPPORTED, "It always thinks.", param="thinking")))
    told = await refusal(served, messages=[*HI, {"role": "assistant", "content": "{"}])
    assert told.startswith("messages.1: It always thinks. It cannot go on from the beginning of an answer")
    assert await refusal(served, thinking={"type": "adaptive"}) == "thinking: It always thinks."


async def test_a_call_has_one_result(served: Served) -> None:
    """A second one is refused where it stands, also in another message of the same turn."""
    turns = [*HI, {"role": "assistant", "content": [USE]}, result(), result()]
    told = await refusal(served, tools=[READ], messages=turns)
    assert told == (
        "messages.3.content.0: each tool_use must have a single result. Found multiple `tool_result` blocks with id: t1"
    )


async def test_tools_are_many_and_have_examples(served: Served) -> None:
    """OpenAI's limit is not Anthropic's; examples reach the model behind the description."""
    many = [READ | {"name": f"read{number}", "input_examples": [{"path": "ä"}]} for number in range(300)]
    asked = await chat(served, tools=many)
    assert len(asked.tools) == 300
    assert asked.tools[0]["function"]["description"] == 'Read a file.\nExamples of its input:\n{"path": "ä"}'


async def test_a_conversation_that_has_ended_is_counted(served: Served) -> None:
    """With the thoughts of its last message, which a message could not continue."""
    served.admission.script = tells(Rendered((1, 2, 3), ""), Finished("stop", Usage(3, 0)))
    turns = [*HI, thought("Hm.", {"type": "text", "text": "Yes. "})]
    body = {"model": "m", "messages": turns, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    status, _, reply = await served.post(f"{PATH}/count_tokens", body)
    assert (status, reply) == (200, {"input_tokens": 3})
    (asked,) = served.admission.submits()
    assert isinstance(asked.generation.source, Chat)  # type: ignore[union-attr]
    assert asked.generation.source.messages[-1] == {  # type: ignore[union-attr]
        "role": "assistant",
        "content": "Yes. ",
        "reasoning_content": "Hm.",
    }
    assert "is continued" in await refusal(served, messages=turns)


@pytest.mark.parametrize(
    ("beta", "wish", "early"),
    [(f"a,{EAGER}", None, True), ("a", None, False), ("", True, True), (EAGER, False, False)],
)
async def test_a_beta_streams_inputs_as_they_are_written(
    served: Served, beta: str, wish: bool | None, early: bool
) -> None:
    """Unless the tool itself says otherwise; without it one that is cut off never comes as a call."""
    served.admission.script = tells(Accepted(10, speech=SPEECH), Delta(CUT), Finished("length", Usage(10, 20)))
    body = ASK | {"stream": True, "tools": [READ | {"eager_input_streaming": wish}]}
    async with served.http.post(PATH, json=body, headers={"anthropic-beta": beta}) as answer:
        text = (await answer.read()).decode()
    assert ('"tool_use"' in text) is early


async def test_a_diagnosis_is_not_available(served: Served) -> None:
    """That is said to who names an earlier message, and to nobody else."""
    for diagnostics, told in (
        (None, None),
        ({"previous_message_id": None}, None),
        ({"previous_message_id": "msg_1"}, {"cache_miss_reason": {"type": "unavailable"}}),
    ):
        _, _, reply = await served.post(PATH, ASK | {"diagnostics": diagnostics})
        assert reply.get("diagnostics") == told


async def test_a_schema_is_called_what_the_client_calls_it(served: Served) -> None:
    """Also where the worker refuses it, which knows OpenAI's names only."""
    param = "tools[0].function.parameters"
    refused = Refusal(RefusalKind.INVALID_CONSTRAINT, f"Invalid '{param}': no look-around.", param=param)
    served.admission.script = tells(Refused(refused))
    assert await refusal(served, tools=[READ], tool_choice={"type": "any"}) == "tools.0.input_schema: no look-around."
