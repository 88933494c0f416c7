"""Text to tokens and tokens to bytes by a tokenizer.json, whatever kind of tokenizer it describes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmx.backends.base import LoadError
from lmx.backends.mlx.tokenizer import TextTokenizer, load_tokenizer
from tests.support import models

BYTE_LEVEL = (models.mlx_folder() / "tokenizer.json").read_text()
VOCABULARY = models.vocabulary()

SPACE_MARKED: dict[str, Any] = {
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ],
}
MARKED_TOKENS = ("<unk>", "<s>", "</s>", "<0x0A>", "<0xE6>", "▁", "▁he", "a", "<0xZZ>", "ü", "▁a▁b", "<note>")
MARKED_BYTES = (b"", b"", b"", b"\n", b"\xe6", b" ", b" he", b"a", b"<0xZZ>", "ü".encode(), b" a b", b"<note>")


def edited(**changes: Any) -> TextTokenizer:
    """The byte-level tokenizer with other settings in its tokenizer.json."""
    return TextTokenizer(json.dumps(json.loads(BYTE_LEVEL) | changes))


def space_marked(model: dict[str, Any]) -> TextTokenizer:
    """A tokenizer as SentencePiece models are converted: three control tokens, one added token that is text."""
    added = [
        {"id": index, "content": MARKED_TOKENS[index], "special": index < 3, "single_word": False, "lstrip": False,
         "rstrip": False, "normalized": False}
        for index in (0, 1, 2, 11)
    ]  # fmt: skip
    normalizer = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    return edited(model=model, added_tokens=added, normalizer=normalizer, pre_tokenizer=None, decoder=SPACE_MARKED)


def space_marked_bpe() -> TextTokenizer:
    vocab = {token: index for index, token in enumerate(MARKED_TOKENS)}
    return space_marked({"type": "BPE", "vocab": vocab, "merges": [], "unk_token": "<unk>", "byte_fallback": True})


def framed(before: list[str], after: list[str]) -> TextTokenizer:
    """A tokenizer whose post-processor puts control tokens around a text."""
    around = sorted({*before, *after})
    pieces = [
        *({"SpecialToken": {"id": token, "type_id": 0}} for token in before),
        {"Sequence": {"id": "A", "type_id": 0}},
        *({"SpecialToken": {"id": token, "type_id": 0}} for token in after),
    ]
    ids = {token: {"id": token, "ids": [VOCABULARY.index(token)], "tokens": [token]} for token in around}
    return edited(
        post_processor={"type": "TemplateProcessing", "single": pieces, "pair": pieces, "special_tokens": ids}
    )


# Tokens to bytes


def test_byte_level_tokens_are_bytes() -> None:
    """GPT-2's alphabet is undone, control tokens add nothing, an added token that is text adds itself."""
    table = TextTokenizer(BYTE_LEVEL).token_bytes(len(VOCABULARY))
    singles = [piece for piece in table if len(piece) == 1]
    assert sorted(singles) == [bytes([byte]) for byte in range(256)]
    assert [table[VOCABULARY.index(token)] for token in models.CONTROL] == [b"", b"", b""]
    assert table[VOCABULARY.index(models.THINK)] == models.THINK.encode()
    assert table[VOCABULARY.index("Ġworld")] == b" world"


def test_byte_level_is_known_by_the_pre_tokenizer_too() -> None:
    """Some tokenizer.json have no decoder, or one composed of several."""
    expected = TextTokenizer(BYTE_LEVEL).token_bytes(len(VOCABULARY))
    assert edited(decoder=None).token_bytes(len(VOCABULARY)) == expected
    composed = {"type": "Sequence", "decoders": [json.loads(BYTE_LEVEL)["decoder"]]}
    assert edited(decoder=composed, pre_tokenizer=None).token_bytes(len(VOCABULARY)) == expected


def test_a_byte_level_token_outside_the_alphabet_means_its_text() -> None:
    """A vocabulary may hold words that were never spelt in GPT-2's alphabet."""
    model = json.loads(BYTE_LEVEL)["model"]
    model["vocab"] |= {"日本": len(VOCABULARY)}
    assert edited(model=model).token_bytes(len(VOCABULARY) + 1)[-1] == "日本".encode()


def test_space_marked_bpe_tokens() -> None:
    """In SentencePiece's spelling ▁ is a space and <0x0A> a byte."""
    assert tuple(space_marked_bpe().token_bytes(len(MARKED_TOKENS))) == MARKED_BYTES


def test_unigram_tokens() -> None:
    """A Unigram model lists its vocabulary instead of mapping it; the spelling is the same."""
    unigram = {
        "type": "Unigram",
        "unk_id": 0,
        "vocab": [[token, -1.0] for token in MARKED_TOKENS],
        "byte_fallback": True,
    }
    assert tuple(space_marked(unigram).token_bytes(len(MARKED_TOKENS))) == MARKED_BYTES


def test_the_table_is_as_wide_as_the_logits() -> None:
    """Padding of the model's vocabulary adds nothing to the text; tokens without a logit are left out."""
    tokenizer = TextTokenizer(BYTE_LEVEL)
    assert tokenizer.token_bytes(len(VOCABULARY) + 3)[-3:] == [b"", b"", b""]
    assert tokenizer.token_bytes(10) == tokenizer.token_bytes(len(VOCABULARY))[:10]


# Text to tokens


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    """The bytes of a byte-level tokenizer's tokens are the text that was encoded."""
    tokenizer = TextTokenizer(BYTE_LEVEL)
    table = tokenizer.token_bytes(len(VOCABULARY))
    assert b"".join(table[token] for token in tokenizer.encode(text, special=False)) == text.encode()


def test_space_marked_text_comes_back() -> None:
    """Also where characters outside the vocabulary fall back to bytes."""
    tokenizer = space_marked_bpe()
    table = tokenizer.token_bytes(len(MARKED_TOKENS))
    assert b"".join(table[token] for token in tokenizer.encode("a a\nü", special=False)) == "a a\nü".encode()


def test_half_a_surrogate_pair_is_no_error() -> None:
    """JSON may carry one; it becomes a question mark."""
    tokenizer = TextTokenizer(BYTE_LEVEL)
    assert tokenizer.encode("a\ud83d", special=True) == tokenizer.encode("a?", special=True)


@pytest.mark.parametrize("token", models.CONTROL)
def test_control_tokens_in_a_text(token: str) -> None:
    """They count only when asked for; text that looks like one is text."""
    tokenizer = TextTokenizer(BYTE_LEVEL)
    assert tokenizer.encode(f"a{token}", special=True)[1:] == [VOCABULARY.index(token)]
    assert len(tokenizer.encode(f"a{token}", special=False)) == 1 + len(token)


def test_limits_in_the_file_do_not_apply() -> None:
    """A tokenizer.json may carry the truncation and padding of its training."""
    truncation = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    padding = {
        "strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": models.END_OF_TEXT,
    }  # fmt: skip
    assert len(edited(truncation=truncation, padding=padding).encode("abcd", special=True)) == 4


def test_prefix() -> None:
    """What the tokenizer would put in front of a text is known, and not put there by `encode`."""
    start, end = VOCABULARY.index(models.END_OF_TEXT), models.IM_END
    assert TextTokenizer(BYTE_LEVEL).prefix() == ()
    assert framed([models.END_OF_TEXT], []).prefix() == (start,)
    assert framed([models.END_OF_TEXT], [end]).prefix() == (start,)
    assert framed([], [end]).prefix() == ()
    assert start not in framed([models.END_OF_TEXT], []).encode("a", special=True)


# Files


@pytest.mark.parametrize("content", [b"", b"{}", b"no json", b"\xff\xfe"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """A tokenizer.json that cannot be read is a LoadError that names it."""
    file = tmp_path / "tokenizer.json"
    file.write_bytes(content)
    with pytest.raises(LoadError, match=str(file)):
        load_tokenizer(tmp_path)


WITHOUT_TOKENIZER_JSON = """
import sys
from pathlib import Path
from lmx.backends.base import LoadError
from lmx.backends.mlx.tokenizer import load_tokenizer
print(load_tokenizer(Path(sys.argv[1])).encode("hello world", special=True))
try:
    load_tokenizer(Path(sys.argv[2]))
except LoadError as error:
    print(error)
"""


@pytest.mark.slow  # the real transformers takes seconds to import
def test_a_folder_without_tokenizer_json(tmp_path: Path) -> None:
    """transformers converts what is there; where it cannot, the error says what to do."""
    model = json.loads(BYTE_LEVEL)["model"]
    old, empty = tmp_path / "old", tmp_path / "empty"
    for folder in (old, empty):
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    (old / "vocab.json").write_text(json.dumps(model["vocab"]))
    (old / "merges.txt").write_text("#version: 0.2\n" + "\n".join(models.MERGES))
    command = [sys.executable, "-c", WITHOUT_TOKENIZER_JSON, str(old), str(empty)]
    ids, error = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert json.loads(ids) == TextTokenizer(BYTE_LEVEL).encode("hello world", special=True)
    assert str(empty) in error
    assert "tokenizer.json" in error
