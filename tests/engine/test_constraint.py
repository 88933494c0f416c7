"""Grammars and the masks that sequences get of them."""

import dataclasses
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmx.engine.constraint import ConstraintError, Walk, grammar
from lmx.machines.types import Constraint
from tests.support.constraints import allowed, model, possible_text, schema, written

YES_NO = Constraint("choice", '["yes", "no"]')


def walk(constraint: Constraint, text: str = "", name: str = "guide") -> Walk:
    """A mask after `text` as the model itself spells it."""
    chosen = model(name)
    mask = chosen.grammars().compile(constraint).mask()
    for token in chosen.encode(text):
        mask.accept(token)
    return mask


@pytest.mark.parametrize("name", ["guide", "tiny", "guide_mlx"])
def test_a_mask_has_one_bit_a_token_and_no_more(name: str) -> None:
    """uint32 words, ceil(vocab / 32) of them; bits beyond the vocabulary are 0."""
    info = model(name).info
    words = walk(Constraint("regex", "(?s:.*)"), name=name).allowed()
    assert words.dtype == np.uint32
    assert words.shape == (-(-info.vocab // 32),)
    assert max(allowed(words)) < info.vocab


@pytest.mark.parametrize("name", ["guide", "tiny", "guide_mlx"])
def test_only_text_and_the_end_are_ever_allowed(name: str) -> None:
    """Control tokens add nothing to the text: no grammar lets them through. Every end token is as good as another."""
    info = model(name).info
    tokens = set(allowed(walk(Constraint("regex", "(?s:.*)"), name=name).allowed()))
    assert info.eos <= tokens
    assert {token for token in tokens if not info.token_bytes[token]} == set(info.eos)
    assert {token for token, piece in enumerate(info.token_bytes) if piece.isascii() and piece} <= tokens


def test_every_way_to_spell_a_text_is_allowed_where_there_is_a_choice() -> None:
    """Exactly the tokens that begin, or are, one of the possible texts."""
    info = model("guide").info
    tokens = {info.token_bytes[token] for token in allowed(walk(Constraint("regex", "the|thin[a-z]")).allowed())}
    assert tokens == {
        piece for piece in info.token_bytes if piece and re.fullmatch(b"t|th|the|thi|thin|thin[a-z]", piece)
    }


def test_the_end_is_allowed_exactly_where_the_text_is_complete() -> None:
    """One letter is too short, two may end or go on, three must end."""
    info, constraint = model("guide").info, Constraint("regex", "[ab]{2,3}")
    ends = [not info.eos.isdisjoint(allowed(walk(constraint, "a" * count).allowed())) for count in range(4)]
    assert ends == [False, False, True, True]
    assert set(allowed(walk(constraint, "aba").allowed())) == set(info.eos)


def test_after_the_end_only_the_end_is_allowed() -> None:
    """A sequence that must not stop yet repeats its end token, and never leaves the constraint."""
    info = model("guide").info
    mask = walk(YES_NO, "yes")
    for token in (*info.eos, *info.eos):
        mask.accept(token)
        assert set(allowed(mask.allowed())) == set(info.eos)
    assert mask.fault == ""


@pytest.mark.parametrize("token", [ord("x"), 0])
def test_a_token_that_is_not_allowed_is_a_fault_and_no_exception(token: int) -> None:
    """A letter that does not fit, or the end before the text is complete; the walk stays at its end."""
    chosen = model("guide")
    mask = walk(YES_NO)
    mask.accept(chosen.encode("x")[0] if token else min(chosen.info.eos))
    assert set(allowed(mask.allowed())) == set(chosen.info.eos)
    fault = mask.fault
    assert "constraint" in fault
    mask.accept(chosen.encode("yes")[0])
    assert set(allowed(mask.allowed())) == set(chosen.info.eos)
    assert mask.fault == fault


def test_sequences_share_a_grammar_and_nothing_else() -> None:
    """Two walks at different places."""
    compiled = model("guide").grammars().compile(Constraint("regex", "[ab]{1,4}c"))
    first, second = compiled.mask(), compiled.mask()
    before = allowed(second.allowed())
    for token in model("guide").encode("abab"):
        first.accept(token)
    assert allowed(second.allowed()) == before
    assert allowed(first.allowed()) == model("guide").encode("c")


def test_a_constraint_is_compiled_once_while_it_is_in_use() -> None:
    """The same Grammar again; after many tokens a new one, as its lexer only ever grows."""
    grammars = model("guide").grammars()
    compiled = grammars.compile(YES_NO)
    assert grammars.compile(Constraint("choice", '["yes", "no"]')) is compiled
    long = Constraint("regex", "a*")
    compiled, mask = grammars.compile(long), grammars.compile(long).mask()
    letter = model("guide").encode("a")[0]
    for _ in range(grammar.TOKENS + 2):
        mask.accept(letter)
    mask.allowed()
    assert grammars.compile(long) is not compiled


def test_the_cache_is_bounded_and_keeps_what_is_used() -> None:
    """The least recently used grammar is forgotten first."""
    grammars = model("guide").grammars()
    first = grammars.compile(YES_NO)
    for index in range(40):
        grammars.compile(Constraint("choice", json.dumps([str(index)])))
        assert grammars.compile(YES_NO) is first
    for index in range(40, 80):
        grammars.compile(Constraint("choice", json.dumps([str(index)])))
    assert grammars.compile(YES_NO) is not first


def test_a_grammar_that_fails_under_way_is_not_used_again() -> None:
    """A lexer at its limit would fail for every later sequence too."""
    grammars = model("guide").grammars()
    compiled = grammars.compile(YES_NO)
    mask = compiled.mask()
    mask.accept(model("guide").encode("x")[0])
    mask.allowed()
    assert grammars.compile(YES_NO) is not compiled


def test_forced_text_is_spelled_as_the_model_spells_it() -> None:
    """Where only one text is possible, the one token that the tokenizer itself would choose is allowed."""
    chosen = model("guide")
    text = '{"name": "lmx", "arguments": [1, 2]}'
    mask = chosen.grammars().compile(Constraint("choice", json.dumps([text]))).mask()
    for token in chosen.encode(text):
        assert allowed(mask.allowed()) == [token]
        mask.accept(token)


def test_a_tokenizer_that_puts_a_space_in_front_of_texts_does_no_harm() -> None:
    """As SentencePiece models do: the text begins with no space unless the constraint has one."""
    chosen = model("guide")
    spaced = dataclasses.replace(chosen, encode=lambda text: chosen.encode(" " + text))
    for seed in range(5):
        text = written(spaced.grammars().compile(schema({"const": {"a": "say it"}})), chosen.info, seed)
        assert json.loads(text or b"") == {"a": "say it"}


def test_a_model_without_an_end_token_is_not_constrained() -> None:
    """Its text could never be complete."""
    chosen = model("guide")
    endless = dataclasses.replace(chosen, info=dataclasses.replace(chosen.info, eos=frozenset()))
    with pytest.raises(ConstraintError, match="end token") as error:
        endless.grammars().compile(YES_NO)
    assert error.value.param == "choice"


def test_an_end_token_that_has_text_ends_and_is_not_text() -> None:
    """Some models end with a token that is written out: inside a string it must not be chosen as text."""
    chosen = model("guide")
    end = next(token for token, piece in enumerate(chosen.info.token_bytes) if piece == b"a")
    ended = dataclasses.replace(chosen, info=dataclasses.replace(chosen.info, eos=frozenset({end})))
    mask = ended.grammars().compile(Constraint("regex", "[a-c]{2}")).mask()
    assert end not in allowed(mask.allowed())
    mask.accept(chosen.encode("bc")[0])
    for token in chosen.encode("bc")[1:]:
        mask.accept(token)
    assert allowed(mask.allowed()) == [end]


OPTIONS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(options=OPTIONS, other=st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
def test_a_choice_is_exactly_one_of_its_strings(options: list[str], other: str) -> None:
    """Whatever they hold: quotes, line ends, other alphabets, nothing at all, beginnings of each other."""
    constraint = Constraint("choice", json.dumps(options))
    assert all(possible_text(constraint, option) for option in options)
    assert possible_text(constraint, other) is (other in options)
    assert possible_text(constraint, options[0] + "~") is (options[0] + "~" in options)


@pytest.mark.parametrize(
    ("gbnf", "pattern"),
    [
        ('root ::= "yes" | "no"', "yes|no"),
        ("root ::= [a-c]+ [0-9]?", "[a-c]+[0-9]?"),
        ('root ::= word ("-" word){1,2}\nword ::= [a-z]{2}', "[a-z]{2}(-[a-z]{2}){1,2}"),
        ('root ::= "\\x41\\u00e9" [\\x5d"]', 'Aé[\\]"]'),
        ('# a comment\nroot ::= "(" [^()\\n]* ")"', r"\([^()\n]*\)"),
        ('root ::= ("a" |\n  "b") "\\\\" "\\""', r'[ab]\\"'),
        ("root ::= my-rule my_rule2\nmy-rule ::= [xy]\nmy_rule2 ::= [z]", "[xy]z"),
    ],
)
def test_gbnf_means_what_it_means_in_llama_cpp(gbnf: str, pattern: str) -> None:
    """Compared with a regular expression over texts of every kind."""
    texts = ["", "yes", "no", "nope", "a", "abc", "abca", "ab7", "7", "ab-cd", "ab-cd-ef", "ab-cd-ef-gh", 'Aé]', 'Aé"',
             "A]", "()", "(ab)", "((", "(\n)", 'a\\"', 'b\\"', "xz", "yz", "zz", "x"]  # fmt: skip
    written_ = [text for text in texts if possible_text(Constraint("gbnf", gbnf), text)]
    assert written_ == [text for text in texts if re.fullmatch(pattern, text)]
    assert written_


def test_gbnf_may_be_recursive() -> None:
    """Balanced brackets, which no regular expression describes."""
    balanced = Constraint("gbnf", 'root ::= ("[" root "]")*')
    assert [possible_text(balanced, text) for text in ("", "[]", "[[][]]", "[", "[[]", "][")] == [
        True, True, True, False, False, False
    ]  # fmt: skip


def test_lark_with_a_schema_inside() -> None:
    """A call as agents want it: the name, then arguments under their schema."""
    call = Constraint("lark", 'start: "<call>" %json {"type": "object", "properties": {"x": {"type": "integer"}}, '
                              '"required": ["x"], "additionalProperties": false} "</call>"')  # fmt: skip
    assert possible_text(call, '<call>{"x":12}</call>')
    assert not possible_text(call, '<call>{"y":12}</call>')
    assert not possible_text(call, '<call>{"x":12}')


def test_a_regex_matches_the_whole_text() -> None:
    """Anchored at both ends, over characters and not bytes."""
    pattern = Constraint("regex", r"\d{3}-(ä|ö)+")
    assert possible_text(pattern, "123-äö")
    assert not possible_text(pattern, "123-")
    assert not possible_text(pattern, "x123-ä")


def test_tokens_of_the_same_text_are_all_allowed() -> None:
    """SentencePiece models have a byte token beside the letter."""
    chosen = model("tiny")
    pieces = [*chosen.info.token_bytes, b"hello", b"h"]
    doubled = dataclasses.replace(chosen, info=dataclasses.replace(chosen.info, token_bytes=pieces))
    tokens = allowed(doubled.grammars().compile(Constraint("regex", "h[a-z]*")).mask().allowed())
    assert {len(pieces) - 1, len(pieces) - 2} < set(tokens)
    assert sorted(pieces[token] for token in tokens) == [b"h", b"h", b"he", b"hell", b"hello", b"hello"]
