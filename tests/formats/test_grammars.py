"""Grammars for calls that must come, and that what they let come is read as it was meant."""

import json
from typing import Any

import jsonschema
import pytest

from lmx.formats.base import Unforceable
from lmx.formats.parts import Said
from lmx.formats.table import FORMATS
from lmx.machines.speech import Speech
from lmx.machines.types import Constraint
from tests.formats.cases import CASES, FUNCTIONS, NOW, WEATHER, Case, joined, parts_of
from tests.support.constraints import model, possible_text, written

CANONICAL = [case for case in CASES if case.canonical]
every_format = pytest.mark.parametrize("name", FORMATS)


def constraint(name: str, functions: Any = FUNCTIONS, parallel: bool = True) -> Constraint:
    return Constraint("lark", "start: calls\n" + FORMATS[name].grammar(functions, parallel=parallel))


@pytest.mark.parametrize("case", CANONICAL, ids=[f"{number}-{case.calls}" for number, case in enumerate(CANONICAL)])
def test_what_models_write_may_come(case: Case) -> None:
    """Exactly, and of several calls only where they are parallel."""
    assert possible_text(constraint(case.calls), case.text)
    assert possible_text(constraint(case.calls, parallel=False), case.text) is (len(case.means) == 1)


@pytest.mark.parametrize("case", CANONICAL, ids=[f"{number}-{case.calls}" for number, case in enumerate(CANONICAL)])
def test_what_the_schema_forbids_may_not_come(case: Case) -> None:
    """A wrong type, a value that is not in the list, a function that is not declared, an argument that is missing."""
    for right, wrong in (("[1, 2]", '["x"]'), ("kelvin", "fahrenheit"), ("now", "then"), ("city", "town")):
        if right in case.text:
            assert not possible_text(constraint(case.calls), case.text.replace(right, wrong)), wrong


@every_format
@pytest.mark.parametrize("parallel", [True, False])
def test_what_may_come_is_read(name: str, parallel: bool) -> None:
    """Texts drawn at random under the grammar are calls and nothing else, and their arguments keep the schema."""
    guide = model("guide")
    grammar = guide.grammars().compile(constraint(name, parallel=parallel))
    complete = 0
    for seed in range(20):
        text = written(grammar, guide.info, seed, limit=120) if complete < 3 else None
        if text is None:
            continue
        complete += 1
        speech = Speech(calls=name, thoughts="harmony" if name == "harmony" else "")
        means = joined(parts_of([text.decode()], speech))
        assert means
        assert parallel or len(means) == 1
        for called, arguments in means:
            schema = next(one for one in FUNCTIONS if one["name"] == called).get("parameters", {"type": "object"})
            jsonschema.validate(arguments, schema)
    assert complete


@every_format
def test_an_end_mark_ends_exactly_one_call(name: str) -> None:
    """Generation may stop right after it: the call is complete, and only one."""
    for case in CANONICAL:
        for end in FORMATS[name].ends if case.calls == name else ():
            place = case.text.find(end)
            if place >= 0:
                means = joined(parts_of([case.text[: place + len(end)]], case.speech))
                assert means == [case.means[0]]


@every_format
def test_without_functions_nothing_can_come(name: str) -> None:
    """That is a mistake of the caller, and no empty grammar."""
    with pytest.raises(Unforceable):
        FORMATS[name].grammar([], parallel=True)


DEFINED = {
    "name": "book",
    "parameters": {
        "type": "object",
        "properties": {
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "code": {"type": "string", "pattern": "^[A-Z]{2}/[0-9]$"},
            "word": {"type": "string", "minLength": 2, "maxLength": 3},
            "place": {"$ref": "#/$defs/Place"},
        },
        "required": ["place"],
        "$defs": {
            "Place": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "floor": {"type": "integer"}},
                "required": ["name"],
                "additionalProperties": False,
            }
        },
    },
}
BOOKS = {
    "hermes": '<tool_call>\n{{"name": "book", "arguments": {0}}}\n</tool_call>',
    "qwen3_coder": "<tool_call>\n<function=book>\n{1}</function>\n</tool_call>",
    "gemma4": "<|tool_call>call:book{{{2}}}<tool_call|>",
}


def book(name: str, members: dict[str, Any]) -> str:
    """One call as the format writes it."""
    plain = {key: value if isinstance(value, str) else json.dumps(value) for key, value in members.items()}
    inner = [f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in plain.items()]
    return BOOKS[name].format(json.dumps(members), "".join(inner), ",".join(map(gemma, members.items())))


def gemma(member: tuple[str, Any]) -> str:
    key, value = member
    if isinstance(value, dict):
        return f"{key}:{{{','.join(map(gemma, value.items()))}}}"
    return f'{key}:<|"|>{value}<|"|>' if isinstance(value, str) else f"{key}:{json.dumps(value)}"


@pytest.mark.parametrize("name", BOOKS)
@pytest.mark.parametrize(
    ("members", "possible"),
    [
        ({"place": {"name": "Inn", "floor": 2}}, True),
        ({"note": None, "place": {"name": "Inn"}}, True),
        ({"note": "so\nlong", "code": "AB/3", "word": "abc", "place": {"name": "Inn"}}, True),
        ({"code": "AB-3", "place": {"name": "Inn"}}, False),
        ({"code": "xAB/3", "place": {"name": "Inn"}}, False),
        ({"word": "abcd", "place": {"name": "Inn"}}, False),
        ({"place": {"floor": 2}}, False),
        ({"note": "x"}, False),
    ],
)
def test_schemas_are_held(name: str, members: dict[str, Any], possible: bool) -> None:
    """References, choices, patterns and lengths, also where values are plain text."""
    text = book(name, members)
    assert possible_text(constraint(name, [DEFINED]), text) is possible
    if possible:
        assert joined(parts_of([text], Speech(calls=name), [DEFINED])) == [("book", members)]


def test_what_cannot_be_held_is_refused() -> None:
    """Arguments that depend on each other where they are written one by one; JSON holds them."""
    either = {"name": "f", "parameters": {"type": "object", "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}}
    with pytest.raises(Unforceable, match="'anyOf' of the parameters of 'f'"):
        FORMATS["qwen3_coder"].grammar([either], parallel=True)
    open_ended = {"name": "f", "parameters": {"type": "object", "properties": {"a": {}}}}
    with pytest.raises(Unforceable):
        FORMATS["gemma4"].grammar([open_ended], parallel=True)
    assert "anyOf" in FORMATS["hermes"].grammar([either], parallel=True)


LOOP = {"anyOf": [{"$ref": "#/$defs/L"}] * 5, "type": "string"}
WIDE = {"type": "object", "properties": {name: {"$ref": "#/$defs/W"} for name in "abcde"}}


@pytest.mark.parametrize("name", ["qwen3_coder", "gemma4"])
@pytest.mark.parametrize("schema", [{"$ref": "#/$defs/L"}, {"$ref": "#/nowhere"}, {"$ref": "#/$defs/W"}])
def test_a_schema_within_itself_does_no_harm(name: str, schema: Any) -> None:
    """It is held or refused, at once; and a call is read."""
    defs = {"L": LOOP, "W": WIDE}
    function = {"name": "f", "parameters": {"type": "object", "properties": {"a": schema}, "$defs": defs}}
    try:
        told = FORMATS[name].grammar([function], parallel=True)
    except Unforceable as error:
        told = str(error)
    assert "calls_0" in told or "cannot be held in this format" in told
    text = "<tool_call><function=f><parameter=a>x</parameter></function></tool_call>"
    assert joined(parts_of([text], Speech(calls="qwen3_coder"), [function])) == [("f", {"a": "x"})]


@every_format
def test_rules_can_stand_beside_others(name: str) -> None:
    """Their names begin with calls, and there is no start."""
    for line in FORMATS[name].grammar([WEATHER, NOW], parallel=True).splitlines():
        assert line.startswith(("calls", "CALLS_"))


def test_text_that_is_no_call_is_told_beside_the_grammar_s_calls() -> None:
    """What the parser was given is what the grammar let come: nothing of it is answer."""
    for case in CANONICAL:
        assert not [part for part in parts_of([case.text], case.speech) if isinstance(part, Said)]
