"""The grammar of a whole answer: which texts it lets through, in every format of calls."""

import random

import pytest

from lmx.engine.constraint import Form, Thought, Walk
from lmx.engine.constraint.source import spaced
from lmx.formats.base import Function
from lmx.formats.parting import Parting
from lmx.formats.table import FORMATS
from lmx.machines.speech import Speech
from lmx.machines.types import Constraint
from tests.support.constraints import allowed, model, schema

OK = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": False}
FUNCTIONS: list[Function] = [{"name": "f", "parameters": OK}, {"name": "g_h", "parameters": None}]
HERMES = FORMATS["hermes"]
MANY, ONE = (HERMES.grammar(FUNCTIONS, parallel=parallel) for parallel in (True, False))
BEGINS = HERMES.begins
MAY, OPENED = Thought("<think>", "</think>"), Thought("<think>", "</think>", opened=True)
CALL = '<tool_call>{"name": "f", "arguments": {"ok": true}}</tool_call>'


def follow(form: Form, text: str) -> Walk | None:
    """The walk after a text; None where it leaves the form."""
    chosen = model("guide")
    walk = chosen.grammars().compile(form).mask()
    for token in chosen.encode(text):
        if token not in allowed(walk.allowed()):
            return None
        walk.accept(token)
    return walk


def verdict(form: Form, text: str) -> str:
    walk = follow(form, text)
    if walk is None:
        return "wrong"
    return "open" if model("guide").info.eos.isdisjoint(allowed(walk.allowed())) else "whole"


CASES: dict[str, tuple[Form, dict[str, str]]] = {
    "a thought may come first": (
        Form(MAY, constraint=schema(OK)),
        {
            '{"ok":true}': "whole",
            '<think>so {"ok"</think>\n\n{"ok": false}': "whole",
            "<think>so</think>no": "wrong",
            "so": "wrong",
            '</think>{"ok":true}': "wrong",
        },
    ),
    "the prompt opened a thought": (
        Form(OPENED, constraint=schema(OK)),
        {'so</think>{"ok":true}': "whole", '{"ok":true}': "open", "": "open"},
    ),
    "calls must come": (
        Form(MAY, MANY, BEGINS),
        {
            "hello": "wrong",
            CALL: "whole",
            CALL + "\n" + CALL: "whole",
            f"<think>{CALL}</think>\n{CALL}": "whole",
            CALL + "x": "wrong",
        },
    ),
    "one call must come": (Form(None, ONE, BEGINS), {CALL: "whole", CALL + "\n" + CALL: "wrong"}),
    "calls may come": (
        Form(None, MANY, BEGINS, "freely"),
        {
            "": "whole",
            "1 < 2 <tool": "whole",
            f"so {CALL} and {CALL}\nbye": "whole",
            "<<tool_call>": "open",
            "<tool_call> is a mark": "wrong",
            '<tool_call>{"name": "x': "wrong",
        },
    ),
    "one call may come": (
        Form(None, ONE, BEGINS, "last"),
        {"so": "whole", f"so {CALL}": "whole", f"{CALL} so": "wrong", CALL + CALL: "wrong"},
    ),
    "a call, or what was asked for": (
        Form(MAY, ONE, BEGINS, constraint=schema(OK)),
        {CALL: "whole", '{"ok":true}': "whole", "so": "wrong", '{"ok":true}' + CALL: "wrong"},
    ),
    "an answer has a header": (
        Form(Thought("<think>", "</think>", then="<m>"), constraint=schema(OK), header="[final]"),
        {
            '[final]{"ok":true}': "whole",
            '<think>a</think><m>[final]{"ok":true}': "whole",
            '<think>a</think>[final]{"ok":true}': "wrong",
            '{"ok":true}': "wrong",
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_a_form_lets_through(name: str) -> None:
    """A text is whole, may go on, or is wrong."""
    form, texts = CASES[name]
    assert {text: verdict(form, text) for text in texts} == texts


@pytest.mark.parametrize(
    "constraint",
    [
        Constraint("choice", '["yes", "no"]'),
        Constraint("gbnf", 'root ::= "yes" | "no"'),
        Constraint("lark", 'start: "yes" | "no"'),
        Constraint("regex", "yes|no"),
        Constraint("json_schema", '{"enum": ["yes", "no"]}'),
    ],
)
def test_every_kind_of_constraint_may_follow_a_thought(constraint: Constraint) -> None:
    """And holds for what follows only."""
    answer = '"yes"' if constraint.kind == "json_schema" else "yes"
    assert verdict(Form(OPENED, constraint=constraint), f"maybe</think>\n\n{answer}") == "whole"
    assert verdict(Form(OPENED, constraint=constraint), f"maybe</think>\n\n{answer}s") == "wrong"


@pytest.mark.parametrize("name", [name for name, format in FORMATS.items() if not format.leads and name != "harmony"])
@pytest.mark.parametrize("when", ["freely", "last"])
def test_in_every_format_what_begins_like_a_call_becomes_one(name: str, when: str) -> None:
    """After any text, whatever the model likes: what comes out is a call of a function that there is."""
    info, format = model("guide").info, FORMATS[name]
    form = Form(None, format.grammar(FUNCTIONS, parallel=when == "freely"), format.begins, when)  # type: ignore[arg-type]
    assert verdict(form, "some text, 1 < 2 [3]") == "whole"
    for seed in range(3):
        draw, text = random.Random(seed), f"Hey {format.begins[0]}"
        walk = follow(form, text)
        assert walk is not None
        written = text.encode()
        while info.eos.isdisjoint(tokens := allowed(walk.allowed())) and len(written) < 4000:
            token = draw.choice(tokens)
            walk.accept(token)
            written += info.token_bytes[token]
        parting = Parting(Speech(calls=name), FUNCTIONS)
        parting.feed(written.decode())
        parting.end()
        assert parting.called, written


@pytest.mark.parametrize(
    ("name", "call", "wrong"),
    [
        ("llama3", '{"name": "f", "parameters": {"ok": true}}', '{"name": "f", "parameters": {"ok": 1'),
        ("pythonic", "[f(ok=true)]", "[x(ok"),
    ],
)
def test_calls_without_a_mark_are_told_by_how_the_text_begins(name: str, call: str, wrong: str) -> None:
    """A text that begins with a bracket is a call; a bracket later on is none."""
    format = FORMATS[name]
    form = Form(None, format.grammar(FUNCTIONS, parallel=True), format.begins, "freely", leads=True)
    texts = {call: "whole", "": "whole", f"so {call}": "whole", " <b> {": "whole", wrong: "wrong", " {": "wrong"}
    assert {text: verdict(form, text) for text in texts} == texts


def test_schemas_in_calls_are_written_like_others() -> None:
    """At most one space; what only looks like an inline schema in a string is left alone."""
    lark = 'calls: "a %json {" %json {"type": "object"} /%json {/ "\\"" %json {}\n'
    made = spaced(lark)
    assert made.count("x-guidance") == 2
    assert made.startswith('calls: "a %json {" %json {"x-guidance"')
    for text, judged in (('{"ok": true}', "whole"), ('{"ok":  true}', "wrong"), ('{"ok":\ntrue}', "wrong")):
        assert verdict(Form(None, ONE, BEGINS), CALL.replace('{"ok": true}', text)) == judged
