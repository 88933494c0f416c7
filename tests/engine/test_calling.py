"""Calls and constrained answers after thoughts: on both real backends, with the model's own format and tokens."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from lmx.machines.speech import Calling, Speech, Thinking
from lmx.machines.types import Chat, Constraint, Generation, RefusalKind, Sampling
from tests.support.speaking import Speaker, Told, fake, fake_spec, function, guide

QUESTION = ({"role": "user", "content": "What is the weather in Paris?"},)
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "unit": {"enum": ["celsius", "fahrenheit"]}},
    "required": ["city", "unit"],
    "additionalProperties": False,
}
ROLL = {
    "type": "object",
    "properties": {"sides": {"type": "integer", "minimum": 2, "maximum": 20}},
    "required": ["sides"],
    "additionalProperties": False,
}
TOOLS = (function("get_weather", WEATHER), function("roll", ROLL))
STRICT = (function("get_weather", WEATHER, strict=True), function("roll", ROLL, strict=True))
SCHEMAS: dict[str, Any] = {"get_weather": WEATHER, "roll": ROLL}
CHAT = Chat(QUESTION, TOOLS)
ON = Thinking(enabled=True)
JSON = Constraint("json_schema", json.dumps(ROLL))
BACKENDS = ("llama_cpp", "mlx")


def seeded(count: int, **fields: Any) -> list[Generation]:
    """The same at temperature 1."""
    return [Generation(max_tokens=250, sampling=Sampling(seed=seed), **fields) for seed in range(count)]


def valid_calls(told: Told, chat: Chat) -> list[str]:
    """Names of the calls, each of which is what its schema wants."""
    calls = told.calls(chat)
    for name, arguments in calls:
        jsonschema.validate(json.loads(arguments), SCHEMAS[name])
    return [name for name, _ in calls]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_call_that_is_required_comes_and_is_valid(backend: str) -> None:
    """For each of 20 seeds at temperature 1, nothing but calls that hold to their schemas."""
    calling = Calling(required=True, parallel=False)
    for told in guide(backend).tell(seeded(20, prompt=CHAT, calling=calling)):
        assert len(valid_calls(told, CHAT)) == 1, told
        assert told.said(CHAT) == ""
        assert told.finish is not None
        assert told.finish.reason == "stop"


def test_several_calls_may_be_required() -> None:
    """Without `parallel` false the calls end by themselves, or by max_tokens."""
    for told in guide("llama_cpp").tell(seeded(4, prompt=CHAT, calling=Calling(required=True))):
        assert valid_calls(told, CHAT)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_function_that_is_named_is_the_one_that_is_called(backend: str) -> None:
    """However little it has to do with the question."""
    calling = Calling(required=True, only=("roll",), parallel=False)
    for told in guide(backend).tell(seeded(6, prompt=CHAT, calling=calling)):
        assert valid_calls(told, CHAT) == ["roll"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_may_think_before_it_calls(backend: str) -> None:
    """The thought is free, the call is not."""
    chat = Chat(QUESTION, TOOLS, thinking=ON)
    calling = Calling(required=True, parallel=False)
    for told in guide(backend).tell(seeded(6, prompt=chat, calling=calling)):
        assert told.speech is not None
        assert told.speech.opened
        if told.finish is not None and told.finish.reason == "stop":
            assert len(valid_calls(told, chat)) == 1, told
        assert 0 < told.thoughts < len(told.ids) or "</think>" not in told.text


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_thought_comes_before_the_json(backend: str) -> None:
    """thinking and json_schema: first the thought, then exactly what the schema wants."""
    chat = Chat(QUESTION, thinking=Thinking(enabled=True, budget=40))
    for told in guide(backend).tell(seeded(6, prompt=chat, constraint=JSON)):
        assert told.thought(chat)
        jsonschema.validate(json.loads(told.said(chat)), ROLL)


@pytest.mark.parametrize("thinking", [Thinking(), Thinking(enabled=False), Thinking(effort="none")])
def test_without_thinking_the_first_token_is_the_constraint_s(thinking: Thinking) -> None:
    """Switched off, or left alone where the model does not think by itself."""
    chat = Chat(QUESTION, thinking=thinking)
    for told in guide("llama_cpp").tell(seeded(4, prompt=chat, constraint=JSON)):
        jsonschema.validate(json.loads(told.text), ROLL)
        assert told.thoughts == 0


def test_functions_and_a_constraint_call_or_answer() -> None:
    """Either one valid call, or the JSON that was asked for."""
    generations = seeded(6, prompt=CHAT, constraint=JSON, calling=Calling(parallel=False))
    for told in guide("llama_cpp").tell(generations):
        if not valid_calls(told, CHAT):
            jsonschema.validate(json.loads(told.said(CHAT)), ROLL)


@pytest.mark.parametrize("parallel", [True, False])
def test_strict_functions_may_be_called_and_are_held_to_their_schemas(parallel: bool) -> None:
    """Text is free; a call that the model begins by itself is valid, and there is one only where that was asked for."""
    chat = Chat(QUESTION, STRICT)
    told = guide("llama_cpp").tell(seeded(8, prompt=chat, calling=Calling(parallel=parallel)))
    calls = [valid_calls(one, chat) for one in told if "<tool_call>" in one.text]
    assert calls
    assert all(calls)
    assert parallel or all(len(each) == 1 for each in calls)


CALL = '<tool_call>{"name": "roll", "arguments": {"sides": 6}}</tool_call>'


def scripted(*texts: str) -> str:
    """The fake backend's script that says them."""
    text = "".join(texts)
    return "say=" + text.replace("%", "%25").replace(";", "%3B").replace("\n", "%0A")


def answers(folder: Path, text: str) -> str:
    """The script that says it, without encoding."""
    file = folder / "answers.json"
    file.write_text(json.dumps({"": text}), encoding="utf-8")
    return f"answers={file}"


def test_without_parallel_calls_the_text_ends_with_the_first_one() -> None:
    """Text, a call of an unknown function, which is text, and then one call, however many the model wants."""
    unknown = '<tool_call>{"name": "fly", "arguments": {}}</tool_call>'
    speaker = fake(scripted("Hm. ", unknown, CALL, "\n", CALL, " done"))
    both = speaker.tell_one(Generation(prompt=CHAT))
    assert [name for name, _ in both.calls(CHAT)] == ["roll", "roll"]
    one = speaker.tell_one(Generation(prompt=CHAT, calling=Calling(parallel=False)))
    assert valid_calls(one, CHAT) == ["roll"]
    assert "fly" in one.said(CHAT)
    assert one.finish is not None
    assert one.finish.reason == "stop"


def test_a_call_in_a_thought_is_none() -> None:
    """What is only thought of does not end the text."""
    speaker = fake(scripted("<think>", CALL, "</think>\nno"))
    assert speaker.tell_one(Generation(prompt=CHAT, calling=Calling(parallel=False))).text.endswith("no")


@pytest.mark.parametrize("calling", [None, Calling(parallel=False), Calling(required=True, parallel=False)])
def test_a_call_goes_on_in_another_worker(calling: Calling | None) -> None:
    """Wherever it is interrupted, the text and the end are those of the undisturbed run."""
    text = '<think>so</think>\n\n<tool_call>\n{"name": "roll", "arguments": {"sides": 6}}\n</tool_call>'
    speaker = fake(scripted(text, "\n", CALL))
    generation = Generation(prompt=Chat(QUESTION, TOOLS), calling=calling)
    whole = speaker.tell_one(generation)
    for steps in range(1, len(whole.ids) + 2):
        told = speaker.interrupted(generation, steps)
        assert (told.text, told.finish, told.thoughts) == (whole.text, whole.finish, whole.thoughts), steps


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_real_model_s_thought_and_call_go_on_too(backend: str) -> None:
    """In mid-thought, while its end is forced, and in mid-call."""
    chat = Chat(QUESTION, TOOLS, thinking=Thinking(enabled=True, budget=6))
    generation = Generation(
        prompt=chat, calling=Calling(required=True, parallel=False), sampling=Sampling(temperature=0.0), max_tokens=80
    )
    whole = guide(backend).tell_one(generation)
    assert valid_calls(whole, chat)
    for steps in (4, 8, 16):
        told = guide(backend).interrupted(generation, steps)
        assert (told.text, told.finish, told.thoughts) == (whole.text, whole.finish, whole.thoughts), steps


def test_only_some_functions_may_be_called() -> None:
    """`only` without `required`: a call of another one cannot be written."""
    told = fake(scripted("Well: ", CALL)).tell_one(
        Generation(prompt=CHAT, calling=Calling(only=("get_weather",)), max_tokens=120)
    )
    assert told.text.startswith('Well: <tool_call>{"name": "get_weather", "arguments": {')
    assert "roll" not in told.text


HARMONY = """{{ messages[0].content }}
{%- if tools %}{# <|channel|>commentary to=functions.NAME #}{{ tools | tojson }}{% endif -%}
{# <|channel|>analysis<|message|>{{ reasoning_effort }} -#}
<|end|><|start|>assistant"""
ANALYSIS = "<|channel|>analysis<|message|>So.<|end|><|start|>assistant"
FINAL = "<|channel|>final<|message|>"
COMMENTARY = "<|channel|>commentary to=functions.roll <|constrain|>json<|message|>"


@pytest.mark.parametrize(
    ("says", "fields"),
    [
        (ANALYSIS + FINAL + '{"sides": 6}', {"constraint": JSON}),
        (FINAL + '{"sides": 6}', {"constraint": JSON}),
        (ANALYSIS + COMMENTARY + '{"sides": 6}', {"calling": Calling(required=True)}),
        (ANALYSIS + COMMENTARY + '{"sides": 6}', {"constraint": JSON}),
        (ANALYSIS + FINAL + "<b>hi</b>", {"calling": Calling(only=("roll",))}),
        (COMMENTARY + '{"sides": 6}', {"calling": Calling(only=("roll",), parallel=False)}),
    ],
)
def test_answers_that_have_a_header(tmp_path: Path, says: str, fields: dict[str, Any]) -> None:
    """gpt-oss: what follows a thought is another message, of which the prompt has the beginning."""
    file = tmp_path / "harmony.jinja"
    file.write_text(HARMONY, encoding="utf-8")
    told = Speaker(fake_spec(answers(tmp_path, says), str(file))).tell_one(
        Generation(prompt=CHAT, max_tokens=300, **fields)
    )
    assert told.speech == Speech("harmony", "harmony")
    assert told.text == says
    assert ("So." in told.thought(CHAT)) == ("So." in says)


HUGE = {"type": "object", "properties": {"x": {"type": "string", "maxLength": 99_999}}}
ODD = {"type": "object", "properties": {"x": {"not": {"type": "string"}}}}


@pytest.mark.parametrize(
    ("fields", "kind", "param"),
    [
        ({"prompt": Chat(QUESTION), "calling": Calling(required=True)}, "invalid_prompt", "tool_choice"),
        ({"prompt": CHAT, "calling": Calling(required=True, only=("fly",))}, "invalid_prompt", "tool_choice"),
        (
            {"prompt": CHAT, "calling": Calling(required=True), "ignore_eos": True},
            "invalid_constraint",
            "ignore_eos",
        ),
        (
            {"prompt": Chat(QUESTION, (*TOOLS, function("big", HUGE))), "calling": Calling(required=True)},
            "invalid_constraint",
            "tools[2].function.parameters",
        ),
        (
            {"prompt": Chat(QUESTION, (TOOLS[0], function("odd", ODD, strict=True)))},
            "invalid_constraint",
            "tools[1].function.parameters",
        ),
        (
            {"prompt": CHAT, "constraint": Constraint("regex", "(?=x)"), "calling": Calling()},
            "invalid_constraint",
            "regex",
        ),
    ],
)
def test_what_cannot_be_enforced_is_refused(fields: dict[str, Any], kind: str, param: str) -> None:
    """With the field that is at fault; limits hold for functions' schemas as for any."""
    refusal = guide("llama_cpp").refusal(Generation(**fields))
    assert (refusal.kind, refusal.param) == (RefusalKind(kind), param), refusal
    assert param in refusal.message or param in ("tool_choice", "ignore_eos")


def test_functions_that_nobody_forces_may_have_any_schema() -> None:
    """It is only told to the model."""
    chat = Chat(QUESTION, (function("big", HUGE), function("odd", ODD)))
    assert guide("llama_cpp").tell_one(Generation(prompt=chat, max_tokens=3)).finish is not None
