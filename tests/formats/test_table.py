"""What chat templates teach."""

from pathlib import Path

import pytest

from lmx.formats import thinking
from lmx.formats.table import FORMATS, detect, marks, opened
from lmx.formats.thinking import HABITS
from lmx.machines.speech import Speech

GUIDE = Path(__file__).parents[2] / "lmx" / "guide" / "chat_template.jinja"
TOOLS = "{%- if tools %}{{ tools | tojson }}{% endif %}"
SEP, CALL = "<\uff5ctool▁sep\uff5c>", "<\uff5ctool▁call▁begin\uff5c>"

# What is characteristic of real templates, in short.
TEMPLATES: list[tuple[str, str, str, bool]] = [
    ("""{{ '<tool_call>\n{"name": "' ~ tool_call.name }}{% if enable_thinking is false %}{{ '<think>\n\n</think>' }}""",
     "hermes", "think", True),
    ("{{- '<tool_call>\n<function=' + tool_call.name + '>\n' }}{{- '<parameter=' + args_name + '>\n' }}",
     "qwen3_coder", "", False),
    ("""{{- '{"name": "' + tool_call.name + '", ' }}{{- '"parameters": ' }}{{- "<|eot_id|>" }}""", "llama3", "", False),
    ("""{{- "<|python_tag|>" + tool_call.name + ".call(" }}{{- '"parameters": ' }}""", "llama3", "", False),
    ("{{- '<|python_start|>[func_name1(params_name1=params_value1)]<|python_end|>' }}", "pythonic", "", False),
    ('{{ "[TOOL_CALLS]" + function["name"] + "[ARGS]" + arguments }}', "mistral", "", False),
    ('{{ "[TOOL_CALLS]" + function["name"] + "[CALL_ID]" + id + "[ARGS]" + arguments }}', "mistral_ids", "", False),
    ('{{ "[TOOL_CALLS][" }}{{ "[THINK]your thinking process[/THINK]" }}', "mistral_list", "mistral", False),
    ("{{ '[TOOL_CALLS]x[ARGS][THINK]' }}{% if reasoning_effort == 'none' %}{% endif %}", "mistral", "mistral", True),
    ("{{ '<|tool_call>call:' + name }}{% if not enable_thinking %}{{ '<|channel>thought\n<channel|>' }}{% endif %}",
     "gemma4", "gemma4", True),
    ("{{ '<start_function_call>call:' + name + '{' }}", "function_gemma", "", False),
    ("{{ '<tool_call>' ~ name ~ '<arg_key>' }}{{ '<think>' if enable_thinking }}", "glm45", "think", True),
    ("{{ '<|tool_calls_section_begin|>' }}{{ '<think></think>' }}", "kimi_k2", "think", False),
    (f"{{{{ '{CALL}' + tool['type'] + '{SEP}' + name + '\n```json\n' }}}}", "deepseek_v3", "", False),
    (f"{{% if not thinking is defined %}}{{% set thinking = false %}}{{% endif %}}{{{{ '{CALL}' + '</think>' }}}}",
     "deepseek_v31", "think", True),
    ("{%- set toolcall_begin_token = '<minimax:tool_call>' %}{{ '<think>' }}", "minimax_m2", "think", False),
    ("{{ '<|start|>assistant to=functions.' }}{{ '<|channel|>analysis<|message|>' ~ m.thinking ~ reasoning_effort }}",
     "harmony", "harmony", False),
    ("{{ '<seed:think>' }}{{ '<seed:tool_call>' }}", "", "seed", False),
    ("{{ '<|tool_list_start|>' }}", "lfm2", "", False),
    ("{{ 'Think about thinking, and say <b>.' }}", "", "", False),
]  # fmt: skip


@pytest.mark.parametrize(("template", "calls", "thoughts", "switch"), TEMPLATES)
def test_a_template_tells_how_its_model_speaks(template: str, calls: str, thoughts: str, switch: bool) -> None:
    """Format, thoughts, and whether they can be switched off."""
    assert detect(TOOLS + template) == Speech(calls=calls, thoughts=thoughts, switch=switch)


def test_the_guide_speaks_as_its_template_says() -> None:
    """Hermes calls, and thoughts that can be switched."""
    assert detect(GUIDE.read_text()) == Speech(calls="hermes", thoughts="think", switch=True)


def test_a_template_that_does_not_read_tools_knows_none() -> None:
    """Whatever marks it has."""
    assert detect("{{ '<tool_call>' }}").calls == ""


@pytest.mark.parametrize(
    ("prompt", "begun"),
    [
        ("<|im_start|>assistant\n<think>\n", True),
        ("<|im_start|>assistant\n<think>\nLet me", True),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", False),
        ("<|im_start|>assistant\n", False),
        ("<|im_start|>user\nWhat does <think> mean?<|im_end|>\n<|im_start|>assistant\n", False),
        ("[INST]What does <think> mean?[/INST]", False),
    ],
)
def test_a_prompt_opens_a_thought_or_does_not(prompt: str, begun: bool) -> None:
    """What a user writes opens none."""
    assert opened(Speech(thoughts="think"), prompt) is begun
    assert not opened(Speech(), prompt)


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ("{% if enable_thinking is defined %}{% endif %}", ("enable_thinking",)),
        ("{% if not thinking is defined %}{% set thinking = false %}{% endif %}", ("thinking",)),
        ("{{ 'Effort: ' ~ reasoning_effort }}", ("reasoning_effort",)),
        ("{% if message.thinking %}{{ message['thinking'] }}{% endif %} thinking", ()),
        ("{% set thinking = message.x %}{{ thinking }}", ()),
        ("{% for thinking in messages %}{{ thinking }}{% endfor %}", ()),
        ("{{ 'it\\'s thinking' }}{{ \"thinking\" }}", ()),
        ("{% if enable_thinking and reasoning_effort %}{% endif %}", ("enable_thinking", "reasoning_effort")),
    ],
)
def test_a_switch_is_a_variable_that_comes_from_outside(template: str, names: tuple[str, ...]) -> None:
    """No text, nobody's member, nothing that the template makes itself."""
    assert thinking.switches(template) == names


def test_marks_are_all_that_must_be_visible() -> None:
    """Of calls and of thoughts, each without the other too."""
    assert marks(Speech()) == frozenset()
    assert marks(Speech(calls="hermes", thoughts="think")) == {"<tool_call>", "</tool_call>", "<think>", "</think>"}
    assert {"<|channel|>", "<|message|>", "<|end|>"} <= marks(Speech(thoughts="harmony"))
    for name, one in FORMATS.items():
        assert set(one.marks) == marks(Speech(calls=name))


@pytest.mark.parametrize("name", FORMATS)
def test_no_mark_is_the_beginning_of_another(name: str) -> None:
    """Where both are looked for: what comes first would depend on how the text is cut."""
    for habit in HABITS.values():
        looked_for = [*FORMATS[name].begins, habit.open]
        for one in looked_for:
            assert (
                not [other for other in looked_for if other != one and other.startswith(one)] or habit.name == "harmony"
            )


@pytest.mark.parametrize("habit", HABITS.values(), ids=list(HABITS))
def test_a_thought_can_be_ended_by_force(habit: thinking.Habit) -> None:
    """What is written then has the mark that ends a thought."""
    assert habit.close in habit.forced_close
