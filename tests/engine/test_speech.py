"""What a chat template is given, what it is taken to mean, and what is refused because it does not know it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmx.backends.base import Info
from lmx.engine.dialect import Dialect, audible, dialect_of
from lmx.engine.refusing import Refused
from lmx.engine.rendering import rendered
from lmx.engine.template import TemplateError
from lmx.machines import frames
from lmx.machines.speech import Speech, Thinking
from lmx.machines.tasks import Rendering
from lmx.machines.types import Chat, Generation, RefusalKind, Text
from tests.support import models
from tests.support.constraints import model
from tests.support.speaking import fake, function, guide

HI = ({"role": "user", "content": "Hi"},)
TOOL = function("roll", {"type": "object", "properties": {"n": {"type": "integer"}}}, strict=True)
PLAIN = "{{ messages[-1].content }}"
THINKS = PLAIN + "<think>\n"
SWITCHED = PLAIN + "{% if enable_thinking is not defined or enable_thinking %}<think>{% else %}</think>{% endif %}"
QUIET = PLAIN + "{% if thinking %}<think>{% endif %}"
GRADED = "{{ reasoning_effort | default('?') }}|" + THINKS
NAMED = "{{ 'so' if reasoning_effort == 'xhigh' }}" + GRADED
STOPPABLE = "{% if reasoning_effort != 'none' %}{{ reasoning_effort }}<think>{% endif %}"
TOOLS = "{{ tools | tojson }}<tool_call>"
ODD_TOOLS = "{{ tools | tojson }}"


def info(**fields: Any) -> Info:
    made: dict[str, Any] = {
        "version": "1", "context": 100, "slots": 1, "eos": frozenset({0}), "token_bytes": [b"", b"", b"a"],
        "chat_template": None, "weights_bytes": 0,
    }  # fmt: skip
    return Info(**(made | fields))


def prompt(source: str, chat: Chat) -> str:
    dialect = Dialect(info(), source)
    return dialect.template.render(dialect.readable(chat.messages), dialect.variables(chat))


def test_tools_reach_the_template_as_it_reads_them() -> None:
    """The list, without what only the server needs; and no variable at all where there are none."""
    tools = [{"type": "function", "function": {k: v for k, v in TOOL["function"].items() if k != "strict"}}]
    assert prompt(TOOLS, Chat(HI, (TOOL,))) == json.dumps(tools) + "<tool_call>"
    assert prompt("{{ tools is defined }}", Chat(HI)) == "False"


def test_variables_reach_the_template() -> None:
    """Those of the request, beside the server's own."""
    assert prompt("{{ greeting }} {{ messages[0].content }}", Chat(HI, variables={"greeting": "yo"})) == "yo Hi"


@pytest.mark.parametrize(
    ("source", "thinking", "text"),
    [
        (SWITCHED, Thinking(), "Hi<think>"),
        (SWITCHED, Thinking(enabled=True), "Hi<think>"),
        (SWITCHED, Thinking(enabled=False), "Hi</think>"),
        (SWITCHED, Thinking(effort="none"), "Hi</think>"),
        (SWITCHED, Thinking(effort="high"), "Hi<think>"),
        (QUIET, Thinking(), "Hi"),
        (QUIET, Thinking(effort="low"), "Hi<think>"),
        (GRADED, Thinking(), "?|Hi<think>"),
        (GRADED, Thinking(effort="medium"), "medium|Hi<think>"),
        (GRADED, Thinking(effort="minimal"), "low|Hi<think>"),
        (GRADED, Thinking(effort="xhigh"), "high|Hi<think>"),
        (NAMED, Thinking(effort="xhigh"), "soxhigh|Hi<think>"),
        (GRADED, Thinking(effort="max"), "high|Hi<think>"),
        (NAMED, Thinking(effort="max"), "soxhigh|Hi<think>"),
        (STOPPABLE, Thinking(effort="none"), ""),
        (STOPPABLE, Thinking(enabled=False), ""),
        (STOPPABLE, Thinking(effort="xhigh"), "high<think>"),
        (QUIET, Thinking(effort="low", hint=True), "Hi"),
        (GRADED, Thinking(effort="low", hint=True), "low|Hi<think>"),
        (PLAIN, Thinking(effort="low", hint=True), "Hi"),
        (PLAIN, Thinking(enabled=False), "Hi"),
        (PLAIN, Thinking(budget=0), "Hi"),
        (SWITCHED, Thinking(budget=0), "Hi</think>"),
        (THINKS, Thinking(budget=0), "Hi<think>"),
        (PLAIN, Thinking(effort="none"), "Hi"),
    ],
)
def test_thinking_reaches_the_template(source: str, thinking: Thinking, text: str) -> None:
    """By whichever variable it has; what it does not name is the nearest that it does."""
    assert prompt(source, Chat(HI, thinking=thinking)) == text


@pytest.mark.parametrize(
    ("source", "fields", "param", "words"),
    [
        (PLAIN, {"tools": (TOOL,)}, "tools", "does not know tools"),
        (ODD_TOOLS, {"tools": (TOOL,)}, "tools", "no format is known"),
        (PLAIN, {"thinking": Thinking(enabled=True)}, "thinking", "does not think"),
        (PLAIN, {"thinking": Thinking(effort="low")}, "thinking", "does not think"),
        (PLAIN, {"thinking": Thinking(budget=5)}, "thinking", "does not think"),
        (THINKS, {"thinking": Thinking(enabled=False)}, "thinking", "no switch"),
        (THINKS, {"thinking": Thinking(effort="none")}, "thinking", "no switch"),
        (GRADED, {"thinking": Thinking(effort="none")}, "thinking", "no switch"),
        (PLAIN, {"variables": {"shout": True}}, "chat_template_kwargs", "'shout'"),
        (TOOLS, {"variables": {"tools": []}}, "chat_template_kwargs", "cannot set 'tools'"),
        (PLAIN, {"variables": {"messages": [], "eos_token": ""}}, "chat_template_kwargs", "'eos_token', 'messages'"),
    ],
)
def test_what_the_template_does_not_know_is_refused(
    source: str, fields: dict[str, Any], param: str, words: str
) -> None:
    """unsupported_parameter with the field; nothing is silently left out."""
    with pytest.raises(Refused) as caught:
        Dialect(info(), source).variables(Chat(HI, **fields))
    refusal = caught.value.refusal
    assert (refusal.kind, refusal.param) == (RefusalKind.UNSUPPORTED, param)
    assert words in refusal.message


def test_a_contradiction_is_refused() -> None:
    """On by one field and off by another."""
    for chat in (
        Chat(HI, thinking=Thinking(enabled=True, effort="none")),
        Chat(HI, thinking=Thinking(effort="high"), variables={"enable_thinking": False}),
    ):
        with pytest.raises(Refused, match="switches it off"):
            Dialect(info(), SWITCHED).variables(chat)


@pytest.mark.parametrize(
    ("source", "variables", "thinks"),
    [
        (SWITCHED, {}, True),
        (SWITCHED, {"enable_thinking": False}, False),
        (QUIET, {}, False),
        (QUIET, {"thinking": True}, True),
        (THINKS, {}, True),
        (PLAIN, {"enable_thinking": False}, False),
    ],
)
def test_whether_it_thinks_if_nothing_is_said(source: str, variables: dict[str, Any], thinks: bool) -> None:
    """As the template does by itself, or as its variable was set."""
    assert Dialect(info(), source).mode(Chat(HI, variables=variables)).thinks is thinks


CALL = {"id": "call_1", "type": "function", "function": {"name": "roll", "arguments": '{"n": 6}'}}
TURN = {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "so"}
EACH = "{% for m in messages %}{% for c in m.tool_calls or [] %}"
END = "{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (EACH + "{{ c.function.arguments | tojson }}" + END, '{"n": 6}'),
        (EACH + "{{ c.function.arguments.items() | list }}" + END, "[('n', 6)]"),
        (EACH + "{{ 'args: ' + c.function.arguments }}" + END, 'args: {"n": 6}'),
        ("{{ messages[1].reasoning_content }}", "so"),
        ("{{ messages[1].thinking }}", "so"),
        ("{{ messages[1].thinking is defined }}{# reasoning_content #}", "True"),
        ("{{ messages[1] | length }}", "4"),
    ],
)
def test_former_calls_and_thoughts_reach_the_template(source: str, text: str) -> None:
    """Arguments as an object, or as text where it adds them to a text; thoughts under the name that it reads."""
    assert prompt(source, Chat((*HI, TURN))) == text


def test_arguments_that_are_no_object_stay_as_they_are() -> None:
    """The template's own words are the answer to that."""
    odd = {**TURN, "tool_calls": [{**CALL, "function": {"name": "roll", "arguments": "six"}}]}
    assert prompt(EACH + "{{ c.function.arguments }}" + END, Chat((*HI, odd))) == "six"


def test_all_routes_see_the_same_prompt() -> None:
    """A rendering, and a generation of the same chat."""
    speaker = fake()
    chat = Chat(HI, (TOOL,), thinking=Thinking(enabled=True))
    answer = rendered(speaker.intake, frames.Render(1, Rendering(chat, "text")))
    assert isinstance(answer, frames.Rendered)
    assert answer.text.startswith('<tools>[{"type": "function"')
    assert answer.text.endswith("Hi<think>\n")
    ready = speaker.prepared(Generation(prompt=chat))
    assert not isinstance(ready, frames.Rejected)
    assert bytes(ready.prompt).decode() == answer.text
    refused = rendered(speaker.intake, frames.Render(1, Rendering(Chat(HI, variables={"x": 1}), "tokens")))
    assert isinstance(refused, frames.Rejected)


def test_accepted_tells_how_a_chat_is_to_be_read() -> None:
    """With whether the prompt opened a thought; nothing of other prompts."""
    for chat, opened in ((Chat(HI), False), (Chat(HI, thinking=Thinking(enabled=True)), True)):
        ready = guide("llama_cpp").prepared(Generation(prompt=chat))
        assert not isinstance(ready, frames.Rejected)
        assert ready.accepted().speech == Speech("hermes", "think", opened, switch=True)
    ready = guide("llama_cpp").prepared(Generation(prompt=Text("<think>")))
    assert not isinstance(ready, frames.Rejected)
    assert ready.accepted().speech is None


@pytest.mark.parametrize("name", ["tiny", "guide", "guide_mlx"])
def test_a_backend_knows_how_its_control_tokens_are_written(name: str) -> None:
    """Exactly those that add nothing to the text."""
    told = model(name).info
    assert set(told.controls) == {token for token, piece in enumerate(told.token_bytes) if not piece}
    assert {models.IM_START, models.IM_END} <= set(told.controls.values())


def test_marks_are_part_of_the_text_even_as_control_tokens() -> None:
    """But not what ends it, nor any other control token."""
    controls = {0: "</tool_call>", 1: "<tool_call>", 3: "<think>", 4: "<|im_start|>"}
    told = info(controls=controls, token_bytes=[b"", b"", b"a", b"", b""])
    heard = audible(told, Speech(calls="hermes", thoughts="think"))
    assert heard.token_bytes == [b"", b"<tool_call>", b"a", b"<think>", b""]
    assert replace(heard, token_bytes=told.token_bytes) == told
    assert audible(told, Speech()) is told


def test_a_file_may_replace_the_template(tmp_path: Path) -> None:
    """Also where the model has none; the speech is the file's."""
    file = tmp_path / "chat.jinja"
    file.write_text(SWITCHED, encoding="utf-8")
    for own in (None, TOOLS):
        dialect = dialect_of(info(chat_template=own), str(file))
        assert dialect is not None
        assert dialect.speech == Speech(thoughts="think", switch=True)
    assert dialect_of(info()) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"ok\n{% if %}", "is broken at line 2"), (None, "cannot be read: No such file"), (b"\xff", "it is not UTF-8")],
)
def test_a_file_that_is_no_template_fails_the_load(tmp_path: Path, content: bytes | None, words: str) -> None:
    """With its path, and the line where Jinja knows it."""
    file = tmp_path / "chat.jinja"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(TemplateError) as caught:
        dialect_of(info(chat_template=PLAIN), str(file))
    assert str(file) in str(caught.value)
    assert words in str(caught.value)
