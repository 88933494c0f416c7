"""A constraint is another's program: each bad one is refused in time, in words, and harms nobody."""

import json
import subprocess
import sys
import time
from typing import Any

import pytest

from lmx.engine.constraint import ConstraintError
from lmx.machines import limits
from lmx.machines.types import Constraint
from tests.support.constraints import allowed, model, schema, written

BIG = 10**9


def nested(levels: int, inner: Any) -> Any:
    for _ in range(levels):
        inner = {"type": "array", "items": inner}
    return inner


def chain(levels: int) -> str:
    return "".join(f"a{index}: a{index + 1}\n" for index in range(levels))


def cycle(rules: int, each: int) -> str:
    """A grammar of which nearly everything may come first."""
    bodies = [
        " | ".join(f'r{(index * 7 + turn) % rules} "{chr(97 + turn % 26)}"' for turn in range(each)) + ' | "!"'
        for index in range(rules)
    ]
    return "start: " + " | ".join(f"r{index}" for index in range(rules)) + "\n" + "\n".join(
        f"r{index}: {body}" for index, body in enumerate(bodies)
    )  # fmt: skip


BAD_SCHEMAS: dict[str, tuple[Any, str]] = {
    "B71 maxLength": ({"type": "string", "maxLength": BIG}, "'maxLength' is larger than 4096"),
    "B71 minItems": ({"type": "array", "minItems": BIG}, "'minItems' is larger than 4096"),
    "B71 deep inside": (nested(20, {"type": "string", "minLength": float(BIG)}), "'minLength' is larger"),
    "B72 deep": (nested(400, {"type": "null"}), "nested more than 64 levels"),
    "B72 enum": ({"enum": list(range(20_000))}, "'enum' has more than 1000 values"),
    "B72 long enum": ({"enum": ["x" * 1000] * 100}, "65536 characters"),
    "B72 wide": ({"anyOf": [{}] * 20_000}, "more than 12000 objects"),
    "B72 long": ({"const": "x" * 300_000}, "more than 262144 characters"),
    "B72 properties": ({"properties": {f"p{index}": {} for index in range(5000)}}, "more than 400 properties"),
    "B72 references": ({"anyOf": [{"$ref": "#"}] * 3000}, "more than 2000 references"),
    "B73 missing": ({"$ref": "#/$defs/nowhere"}, "/$defs/nowhere"),
    "B73 endless": ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "nothing can match"),
    "B73 http": ({"$ref": "http://169.254.169.254/x"}, "may only point into the schema itself"),
    "B73 file": ({"items": {"$ref": "file:///etc/passwd"}}, "may only point into the schema itself"),
    "B73 relative": ({"$id": "http://127.0.0.1/", "$ref": "x.json"}, "may only point into the schema itself"),
    "B74 odd anchors": ({"type": "string", "pattern": "^*$"}, "cannot be compiled"),
    "B74 groups": ({"type": "string", "pattern": "(" * 2000 + "a" + ")" * 2000}, "nested more than 64 levels"),
    "B74 repetitions": ({"type": "string", "pattern": "((a{1,4000}){1,4000}){1,4000}"}, "more than 65536"),
    "B74 long": ({"type": "string", "pattern": "a" * 20_000}, "more than 16384 characters"),
    "B74 look-around": ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
    "B74 name": ({"patternProperties": {"a{99999}": {}}}, "more than 4096 times"),
    "B75 true": (True, "must be a JSON object"),
    "B75 number": (123, "must be a JSON object"),
    "B75 list": ([], "must be a JSON object"),
    "B75 type": ({"type": 123}, "type must be"),
    "B75 hiccup": ({"type": "hiccup"}, "hiccup"),
    "B75 not": ({"not": {}}, "cannot be honoured: 'not'"),
    "B75 not inside": ({"properties": {"a": {"items": {"if": {}, "then": {}}}}}, "cannot be honoured: 'if'"),
    "B75 unique": ({"type": "array", "uniqueItems": True}, "'uniqueItems'"),
    "B75 format": ({"type": "string", "format": "moon"}, "moon"),
    "B75 oneOf": ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "'oneOf' can only be honoured"),
    "B75 loopholes": ({"x-guidance": {"lenient": True}, "not": {}}, "'x-guidance'"),
    "B77 empty": ({"enum": []}, "nothing can match"),
    "B77 range": ({"type": "integer", "minimum": 5, "maximum": 3}, "nothing can match"),
    "B77 false": ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "nothing can match"),
}
BAD_TEXTS: dict[str, tuple[Constraint, str]] = {
    "B70 gbnf groups": (Constraint("gbnf", "root ::= " + "(" * 20_000 + '"a"' + ")" * 20_000), "64 levels"),
    "B70 gbnf deeper": (Constraint("gbnf", "root ::= " + "(" * 100_000 + '"a"' + ")" * 100_000), "20000 groups"),
    "B70 gbnf chain": (
        Constraint("gbnf", "root ::= a0\n" + "".join(f"a{index} ::= a{index + 1}\n" for index in range(9999))),
        "lines",
    ),
    "B70 gbnf rules": (
        Constraint("gbnf", "root ::= a0\n" + "".join(f"a{index} ::= a{index + 1}\n" for index in range(2000))),
        "1000 rules",
    ),
    "B70 lark groups": (Constraint("lark", "start: " + "(" * 100_000 + '"a"' + ")" * 100_000), "20000 groups"),
    "B70 lark options": (Constraint("lark", "start: " + "[" * 9000 + '"a"' + "]" * 9000), "cannot be compiled"),
    "B70 lark chain": (Constraint("lark", f'start: a0\n{chain(9000)}a9000: "x"'), "lines"),
    "B70 lark many": (Constraint("lark", "start: a\n" + 'a: "x"\r' * 9000), "lines"),
    "B70 lark long": (Constraint("lark", 'start: "' + "x" * 300_000 + '"'), "262144 characters"),
    "B70 lark repeats": (Constraint("lark", 'start: (("a"{1,900}) ~ 1..900) {0,900}'), "more than 65536"),
    "B70 lark regex": (Constraint("lark", "start: /((a{1,900}){1,900}){0,900}/"), "more than 65536"),
    "B70 lark schema": (Constraint("lark", 'start: %json {"maxLength": 1000000}'), "'maxLength'"),
    "B70 lark doubling": (
        Constraint("lark", "start: A0\n" + "".join(f"A{i}: A{i + 1} A{i + 1}\n" for i in range(40)) + 'A40: "x"'),
        "be compiled",
    ),
    "B70 lark wide": (Constraint("lark", cycle(900, 25)), "too big"),
    "B70 regex": (Constraint("regex", "(" * 100_000 + "a" + ")" * 100_000), "16384 characters"),
    "B77 lark": (Constraint("lark", 'start: start "a"'), "nothing can match"),
    "B78 lark far down": (Constraint("lark", f"start: a0\n{chain(4990)}a4990: nowhere"), "nowhere"),
    "B78 lark": (Constraint("lark", "start: nowhere"), "nowhere"),
    "B78 lark empty": (Constraint("lark", ""), "cannot be compiled"),
    "B78 lark loophole": (Constraint("lark", '{"grammars": [{"json_schema": {"not": {}}}]}'), "cannot be compiled"),
    "B78 lark schema": (Constraint("lark", 'start: %json {"not": {}}'), "cannot be honoured: 'not'"),
    "B78 lark no schema": (Constraint("lark", "start: %json {"), "'%json' must be followed"),
    "B78 lark control": (Constraint("lark", "start: <|im_end|>"), "cannot be compiled"),
    "B78 lark number": (Constraint("lark", "start: <[1]>"), "nothing can match"),
    "B78 gbnf": (Constraint("gbnf", "root := x"), "cannot be read"),
    "B78 gbnf rule": (Constraint("gbnf", "root ::= x"), "Rule 'x' not found"),
    "B78 gbnf root": (Constraint("gbnf", 'a ::= "x"'), "No 'root' rule"),
    "B78 gbnf escape": (Constraint("gbnf", 'root ::= "\\'), "cannot be read"),
    "B78 regex": (Constraint("regex", "(a"), "unclosed group"),
    "not JSON": (Constraint("json_schema", "{bad"), "cannot be read"),
    "deep JSON": (Constraint("json_schema", "[" * 200_000), "cannot be read"),
    "NaN": (Constraint("json_schema", '{"const": NaN}'), "cannot be read"),
    "half a character": (Constraint("json_schema", r'{"const": "\ud800"}'), "cannot be read"),
    "half a choice": (Constraint("choice", r'["\ud800"]'), "surrogate"),
    "no choice": (Constraint("choice", "[]"), "1 to 1000"),
    "no list": (Constraint("choice", '{"a": "b"}'), "list of strings"),
    "long choice": (Constraint("choice", json.dumps(["x" * 70_000])), "65536 characters"),
}
DEEPEST = {
    "rules": Constraint("lark", f'start: a0\n{chain(4990)}a4990: "x"\n'),
    "groups": Constraint(
        "lark", "start: a0\n" + "".join(f'a{i}: (((({"a" + str(i + 1)} "y"))))\n' for i in range(4990)) + 'a4990: "x"\n'
    ),
    "references": schema(
        {"$ref": "#/$defs/a0"}
        | {"$defs": {f"a{i}": nested(2, {"$ref": f"#/$defs/a{i + 1}"}) for i in range(1990)} | {"a1990": {}}}
    ),
    "properties": schema(
        {"$ref": "#/$defs/a0"}
        | {
            "$defs": {f"a{i}": {"properties": {"x": {"$ref": f"#/$defs/a{i + 1}"}}} for i in range(1990)}
            | {"a1990": {}}
        }
    ),
    "intersections": schema(
        {"$ref": "#/$defs/a0"}
        | {"$defs": {f"a{i}": {"$ref": f"#/$defs/a{i + 1}", "minLength": 1} for i in range(1990)} | {"a1990": {}}}
    ),
    "pattern": Constraint("regex", "(" * 64 + "a" + ")*" * 64),
}
IN_A_PROCESS = """
from lmx.engine.constraint import ConstraintError
from tests.engine.test_constraint_hostile import DEEPEST
from tests.support.constraints import model, written

tiny = model("tiny")
for name, constraint in DEEPEST.items():
    print(name, flush=True)
    try:
        written(tiny.grammars().compile(constraint), tiny.info, 1, 50)
    except ConstraintError as error:
        print(error, flush=True)
"""


def refusal(constraint: Constraint) -> ConstraintError:
    grammars = model("guide").grammars()
    grammars.compile(Constraint("choice", '["a"]'))
    begun = time.monotonic()
    with pytest.raises(ConstraintError) as caught:
        grammars.compile(constraint)
    assert time.monotonic() - begun < 2.5
    assert len(caught.value.message) < 600
    return caught.value


@pytest.mark.parametrize("case", BAD_SCHEMAS)
def test_a_schema_that_cannot_be_honoured_is_refused_in_words(case: str) -> None:
    """RELIABILITY B71-B77: within two seconds, with what is wrong, blamed on response_format."""
    value, words = BAD_SCHEMAS[case]
    error = refusal(schema(value))
    assert words in error.message
    assert error.param == "response_format"


@pytest.mark.parametrize("case", BAD_TEXTS)
def test_a_grammar_that_cannot_be_honoured_is_refused_in_words(case: str) -> None:
    """RELIABILITY B70, B77, B78: the same for grammars, patterns and choices."""
    constraint, words = BAD_TEXTS[case]
    error = refusal(constraint)
    assert words in error.message
    assert error.param in {"grammar", "regex", "choice", "response_format"}


def test_nothing_within_the_limits_is_deep_enough_to_kill_the_process() -> None:
    """The longest chains of rules and references that are let in: each is answered or refused."""
    done = subprocess.run([sys.executable, "-c", IN_A_PROCESS], check=False, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout, done.stderr[-2000:])


def test_a_refused_constraint_leaves_the_next_one_alone() -> None:
    """Also one that takes too long."""
    grammars = model("guide").grammars()
    for constraint, _ in list(BAD_TEXTS.values())[:4]:
        with pytest.raises(ConstraintError):
            grammars.compile(constraint)
    assert written(grammars.compile(Constraint("choice", '["a"]')), model("guide").info, 0) == b"a"


@pytest.mark.parametrize(
    "constraint",
    [
        Constraint("regex", "(a+)+$"),
        Constraint("regex", "(.*a.{4000})"),
        Constraint("regex", "(.*a[ab]{20})x"),
        Constraint("regex", "(a|aa|aaa|b*|c*)*d"),
        Constraint("regex", "[a-z]{1,4096}" * 50),
        Constraint("regex", r"\p{L}{1,4096}\w{1,4096}" * 20),
        Constraint("lark", 'start: ((("a" b){0,40}){0,40}){0,40}\nb: "c" | b "d"'),
        Constraint("lark", cycle(60, 10)),
        Constraint("gbnf", 'root ::= root root | "a"'),
        schema({"type": "array", "minItems": 4096, "items": nested(20, {"type": "string", "minLength": 4096})}),
        schema({"allOf": [{"type": "string", "pattern": f"(.*{letter}.{{30}}){{20}}"} for letter in "abcdef"]}),
    ],
    ids=lambda constraint: constraint.text[:30],
)
def test_a_mask_never_takes_seconds(constraint: Constraint) -> None:
    """RELIABILITY B74, B77: ambiguous and endless ones go on step by step, or end as a fault of this sequence."""
    chosen = model("guide")
    try:
        mask = chosen.grammars().compile(constraint).mask()
    except ConstraintError:
        return
    slowest = 0.0
    for _ in range(150):
        begun = time.perf_counter()
        tokens = allowed(mask.allowed())
        slowest = max(slowest, time.perf_counter() - begun)
        if mask.fault:
            break
        mask.accept(next((token for token in tokens if token not in chosen.info.eos), tokens[0]))
    assert slowest < 1.0
    assert not mask.fault or "cannot be followed any further" in mask.fault


def test_the_limits_leave_room_for_what_people_use() -> None:
    """Large, honest schemas and grammars."""
    limits.check_schema({"type": "object", "properties": {f"p{i}": {"enum": ["a", "b"]} for i in range(400)}})
    limits.check_schema(nested(30, {"type": "string", "maxLength": 4096}))
    limits.check_pattern(r"^\(?\d{3}\)?[-. ]?(\d{3}[-. ]?){1,20}(a{1,100}){1,100}[(\[{]$")
    limits.check_gbnf('root ::= "(" [^()"]{1,4096} ")" # ((((\n' * 900)
    limits.check_lark('start: "(((" /[^(]{1,100}/ ~ 1..100 // {9999}\n')
