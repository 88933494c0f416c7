"""From text to parts, for every format and however the text is cut."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmx.formats.parting import Parting
from lmx.formats.parts import CallArguments, CallBegun, CallEnded, Part, Said, Thought
from lmx.formats.table import FORMATS, marks
from lmx.machines.speech import Speech
from tests.formats.cases import CASES, FUNCTIONS, Case, joined, parts_of

IDS = [f"{number}-{case.calls}-{case.thoughts}" for number, case in enumerate(CASES)]
every_case = pytest.mark.parametrize("case", CASES, ids=IDS)
HERMES = Speech(calls="hermes", thoughts="think")


@every_case
def test_a_text_means_what_it_means_however_it_is_cut(case: Case) -> None:
    """Whole, character by character, and cut in two at every place; of long texts at every third."""
    means = list(case.means)
    assert joined(parts_of([case.text], case.speech)) == means
    assert joined(parts_of(list(case.text), case.speech)) == means
    for place in range(1, len(case.text), 1 if len(case.text) < 150 else 3):
        assert joined(parts_of([case.text[:place], case.text[place:]], case.speech)) == means, place


@every_case
def test_calls_are_numbered_and_end_before_the_next_begins(case: Case) -> None:
    """Begun, arguments, ended, with the same number; `called` tells whether there was one."""
    parting = Parting(case.speech, FUNCTIONS)
    parts = [*parting.feed(case.text), *parting.end()]
    calls = [part for part in parts if not isinstance(part, Said | Thought)]
    numbers = [part.number for part in calls]
    assert numbers == sorted(numbers)
    assert [part.number for part in calls if isinstance(part, CallBegun)] == list(range(len(set(numbers))))
    for number in set(numbers):
        first, *middle, last = [type(part) for part in calls if part.number == number]
        assert first is CallBegun
        assert set(middle) == {CallArguments}
        assert last is CallEnded
    assert parting.called is bool(calls)


def arguments(parts: Sequence[Part]) -> dict[int, str]:
    """What was told of each call."""
    told: dict[int, str] = {}
    for part in parts:
        if isinstance(part, CallArguments):
            told[part.number] = told.get(part.number, "") + part.text
    return told


@every_case
def test_a_text_that_ends_early_loses_nothing(case: Case) -> None:
    """Cut off anywhere: what is told of calls is how they begin; what is not is text, marks and all."""
    full = arguments(parts_of([case.text], case.speech))
    for place in range(len(case.text)):
        text = case.text[:place]
        parts = parts_of([text], case.speech)
        ended = {part.number for part in parts if isinstance(part, CallEnded)}
        for number, told in arguments(parts).items():
            assert told == full[number] if number in ended else full[number].startswith(told)
        rest = joined(parts)[-1:]
        if rest and isinstance(rest[0], str) and not case.thoughts:
            assert text.rstrip().endswith(rest[0].rstrip())
        if not case.thoughts and not any(isinstance(part, CallBegun) for part in parts):
            assert "".join(part.text for part in parts if isinstance(part, Said)) == text


@every_case
def test_a_text_that_ends_early_is_cut_as_well_as_a_whole_one(case: Case) -> None:
    """Character by character or at once."""
    for place in range(0, len(case.text), 9):
        text = case.text[:place]
        assert joined(parts_of(list(text), case.speech)) == joined(parts_of([text], case.speech)), text


@every_case
def test_without_functions_calls_are_text(case: Case) -> None:
    """Marks and all; thoughts are thoughts still."""
    means = joined(parts_of(list(case.text), case.speech, ()))
    assert all(isinstance(one, str) or one[0] == "think" for one in means)
    if not case.thoughts:
        assert means == [case.text]


@every_case
def test_a_function_that_is_not_declared_is_not_called(case: Case) -> None:
    """The text of such a call is told as it is."""
    functions = [{"name": "other"}]
    means = joined(parts_of(list(case.text), case.speech, functions))
    assert all(isinstance(one, str) or one[0] == "think" for one in means)
    if not case.thoughts:
        assert means == [case.text]


@every_case
def test_a_call_that_is_held_back_is_told_whole_or_is_text(case: Case) -> None:
    """Cut off anywhere: no call begins that does not end, and what is no call is text, marks and all."""
    assert joined(parts_of(list(case.text), case.speech, eager=())) == list(case.means)
    for place in range(0, len(case.text), 3):
        text = case.text[:place]
        parts = parts_of([text], case.speech, eager=())
        assert joined(parts) == joined(parts_of(list(text), case.speech, eager=())), text
        begun, ended = [[part for part in parts if isinstance(part, kind)] for kind in (CallBegun, CallEnded)]
        assert [part.number for part in begun] == [part.number for part in ended] == list(range(len(begun)))
        if not case.thoughts and not begun:
            assert "".join(part.text for part in parts if isinstance(part, Said)) == text


def test_what_is_held_back_depends_on_the_function() -> None:
    """Of the eager ones every piece is told as it comes; a broken call of another one leaves no number behind."""
    call = '<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>'
    broken = '<tool_call>{"name": "now", "arguments": {"at": now}}</tool_call>'
    parting = Parting(HERMES, FUNCTIONS, eager={"get_weather"})
    assert joined(parting.feed(broken)) == [broken]
    assert parting.feed(call[:50])[0] == CallBegun(0, "get_weather")
    assert parting.feed(call[50:])[-1] == CallEnded(0)
    assert (parting.called, parting.whole) == (True, True)


def test_arguments_are_told_as_they_come() -> None:
    """Of JSON every piece, and of a string between tags too."""
    parting = Parting(HERMES, FUNCTIONS)
    assert parting.feed('<tool_call>{"name": "get_weather", "arg') == []
    assert parting.feed('uments": {"city": "Pa') == [CallBegun(0, "get_weather"), CallArguments(0, '{"city": "Pa')]
    assert parting.feed("ris") == [CallArguments(0, "ris")]
    assert parting.feed('"}') == [CallArguments(0, '"}'), CallEnded(0)]
    parting = Parting(Speech(calls="qwen3_coder"), FUNCTIONS)
    begun = parting.feed("<tool_call>\n<function=get_weather>\n<parameter=city>\nPa")
    assert begun == [CallBegun(0, "get_weather"), CallArguments(0, '{"city": "'), CallArguments(0, "Pa")]
    assert parting.feed('"\n<') == [CallArguments(0, '\\"')]


def test_only_what_may_become_a_mark_is_held_back() -> None:
    """And white space, of which it is not known yet what follows it."""
    parting = Parting(HERMES, FUNCTIONS)
    assert parting.feed("a < b <tool") == [Said("a < b")]
    assert parting.feed("s> c") == [Said(" <tools> c")]
    assert parting.feed("<th") == []
    assert parting.end() == [Said("<th")]


def test_a_prompt_that_ends_within_a_thought() -> None:
    """The text begins in it."""
    speech = Speech(thoughts="think", opened=True)
    assert joined(parts_of(["Hm.\n</think>\n\nYes"], speech)) == [("think", "Hm."), "Yes"]
    assert joined(parts_of(["\nHm."], speech)) == [("think", "Hm.")]
    harmony = Speech(thoughts="harmony", opened=True)
    assert joined(parts_of(["Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes"], harmony)) == [
        ("think", "Hm."),
        "Yes",
    ]


def test_the_model_s_own_id_is_kept() -> None:
    """Kimi K2 and Mistral name their calls; others do not."""
    kimi = next(case for case in CASES if case.calls == "kimi_k2")
    mistral = next(case for case in CASES if case.calls == "mistral_ids")
    assert parts_of([kimi.text], kimi.speech)[0] == CallBegun(0, "get_weather", "functions.get_weather:0")
    assert parts_of([mistral.text], mistral.speech)[0] == CallBegun(0, "get_weather", "abcDEF123")
    assert parts_of(['<tool_call>{"id": "\\ud800", "name": "now"}'], HERMES)[0] == CallBegun(0, "now", "")


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ('<tool_call>{"name": "now", "arguments": [1]}</tool_call>', None),
        ('<tool_call>{"name": "now" "arguments": {}}</tool_call>', None),
        ('<tool_call>{"name": 7, "arguments": {}}</tool_call>', None),
        ('<tool_call>{"arguments": {}}</tool_call>', None),
        ("<tool_call>now</tool_call>", None),
        ("<tool_call>", None),
        ('<tool_call>{"name": "now", "arguments": "{"}</tool_call>', None),
        ('<tool_call>{"name": "now", "arguments": "{\\"a\\": 1e999}"}</tool_call>', None),
        ('<tool_call>{"name": "now", "arguments": {"a": x}}</tool_call>', [("now", '{"a": '), "x}}</tool_call>"]),
        ('<tool_call>{"name": "now", "arguments": {"a": 1', [("now", '{"a": '), "1"]),
        ('<tool_call>{"name": "now", "arguments": {"a": "\\x"}}', [("now", '{"a": "'), '\\x"}}']),
        ("<tool_call>x <tool_call>{\"name\": \"now\"}</tool_call>", ["<tool_call>x", ("now", {})]),
        ('<tool_call>{"name": "now"}}</tool_call>', [("now", {}), "}</tool_call>"]),
        ('<tool_call>{"name": "now", "arguments": ' + '{"a":' * 5000, [("now", '{"a":' * 64), '{"a":' * 4936]),
    ],
)  # fmt: skip
def test_malformed_calls_are_text(text: str, means: list[object] | None) -> None:
    """From where they went wrong, if their function was told already; the text after them is read on."""
    whole = joined(parts_of([text], HERMES))
    assert whole == ([text] if means is None else means)
    assert joined(parts_of(list(text), HERMES)) == whole


def test_a_call_within_a_thought_is_a_thought() -> None:
    """Until the mark that ends it."""
    text = '<think>a <tool_call>{"name": "now"}</tool_call></think><tool_call>{"name": "now"}</tool_call>'
    assert joined(parts_of([text], HERMES)) == [("think", 'a <tool_call>{"name": "now"}</tool_call>'), ("now", {})]


def test_many_calls_in_one_text() -> None:
    """As many as there are, in every format that has several."""
    for case in CASES:
        if case.canonical and len(case.means) == 3 and case.calls == "mistral":
            text = "[TOOL_CALLS]" + "now[ARGS]{}" * 3000
            assert len(joined(parts_of([text], case.speech))) == 3000


SPEECHES = [Speech(calls=calls, thoughts=thoughts) for calls in FORMATS for thoughts in ("think", "gemma4")]
SPEECHES += [Speech(calls="harmony", thoughts="harmony"), Speech(thoughts="mistral", opened=True)]


FRAGMENTS = [
    *'{}":,[]()=>\n \\1', '{"name": "now", "arguments": {}}', '{"city": "x"}', "city", "{}", "call:now{", "now()",
    "now", "get_weather", "functions.now:0", "to=functions.now", "commentary", "assistant", "<function=now>",
]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_no_text_raises_and_cuts_make_no_difference(data: st.DataObject) -> None:
    """Marks, names, JSON and anything else in any order."""
    speech = data.draw(st.sampled_from(SPEECHES))
    pieces = data.draw(
        st.lists(st.sampled_from([*sorted(marks(speech)), *FRAGMENTS]) | st.text(max_size=3), max_size=14)
    )
    text = "".join(pieces)
    whole = parts_of([text], speech)
    assert joined(parts_of(pieces, speech)) == joined(whole)
    assert joined(parts_of(list(text), speech)) == joined(whole)
    for part in whole:
        if isinstance(part, Said | Thought | CallArguments):
            assert part.text


@settings(max_examples=200, deadline=None)
@given(text=st.text(), speech=st.sampled_from(SPEECHES[:-1]))
def test_a_text_without_marks_is_told_as_it_is(text: str, speech: Speech) -> None:
    """Every character of it."""
    told = parts_of(list(text), speech)
    assert "".join(part.text for part in told if isinstance(part, Said)) == text
    assert all(isinstance(part, Said) for part in told)
