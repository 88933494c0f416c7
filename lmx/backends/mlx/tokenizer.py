"""Text to token ids and back by a folder's tokenizer.json. Knows nothing of mlx."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from lmx.backends.base import LoadError
from lmx.backends.mlx.folder import TOKENIZER_FILE

BYTE_TOKEN_LENGTH = len("<0x00>")


class TextTokenizer:
    """Thread-safe: the library only reads, and each kind of encoding has an instance of its own."""

    def __init__(self, definition: str) -> None:
        """`definition` is the content of a tokenizer.json; raises ValueError when it is none."""
        self._control = _parse(definition)
        self._plain = _parse(definition)
        self._plain.encode_special_tokens = True

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Token ids without BOS or EOS; `special` lets control tokens written in `text` count."""
        tokenizer = self._control if special else self._plain
        valid = text.encode("utf-8", "replace").decode()  # half a surrogate pair is a legal str
        return list(tokenizer.encode(valid, add_special_tokens=False).ids)

    def prefix(self) -> tuple[int, ...]:
        """The tokens that the model wants in front of every text."""
        return self._frame()[0]

    def suffix(self) -> tuple[int, ...]:
        """The tokens that it wants after a whole text."""
        return self._frame()[1]

    def _frame(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        bare = self._control.encode("a", add_special_tokens=False).ids
        framed = self._control.encode("a", add_special_tokens=True).ids
        starts = range(len(framed) - len(bare) + 1)
        start = next((start for start in starts if framed[start : start + len(bare)] == bare), 0)
        return tuple(framed[:start]), tuple(framed[start + len(bare) :])

    def token_id(self, text: str) -> int | None:
        """The id of a token by its exact text."""
        found: int | None = self._control.token_to_id(text)
        return found

    def controls(self, width: int) -> dict[int, str]:
        """How the control tokens among the first `width` ids are written in a prompt."""
        added = self._control.get_added_tokens_decoder().items()
        return {index: token.content for index, token in added if token.special and index < width}

    def token_bytes(self, width: int) -> list[bytes]:
        """What each of `width` ids adds to the text: nothing for control tokens and for ids that are no token."""
        table = [b""] * width
        for index, piece in _pieces(self._control):
            if index < width:
                table[index] = piece
        return table


def load_tokenizer(folder: Path) -> TextTokenizer:
    """The tokenizer of a model folder; without tokenizer.json transformers makes one from the files there are."""
    file = folder / TOKENIZER_FILE
    try:
        definition = file.read_text(encoding="utf-8") if file.is_file() else _converted(folder)
        return TextTokenizer(definition)
    except (OSError, ValueError) as error:
        raise LoadError(f"{file} cannot be read ({error}); download it again") from error


def _parse(definition: str) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_str(definition)
    except Exception as error:
        if type(error) is not Exception:  # the library raises this very class, and nothing more precise
            raise
        raise ValueError(str(error)) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _converted(folder: Path) -> str:
    """The content that tokenizer.json would have. Importing transformers takes seconds."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    advice = f"put a {TOKENIZER_FILE} there (transformers' save_pretrained writes one)"
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, ImportError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise LoadError(f"{folder} has no tokenizer that can be read ({reason}); {advice}") from error
    # For a folder without any tokenizer file transformers may make one of control tokens only.
    if not isinstance(tokenizer, PreTrainedTokenizerFast) or len(tokenizer) <= len(tokenizer.all_special_ids):
        raise LoadError(f"{folder} has no tokenizer of a kind that lmx can use; {advice}")
    return str(tokenizer.backend_tokenizer.to_str())


def _pieces(tokenizer: Tokenizer) -> Iterator[tuple[int, bytes]]:
    """Every token's id and bytes: added ones are written as they are, those of the model as its decoder says."""
    added = tokenizer.get_added_tokens_decoder()
    kinds = _kinds(_state(tokenizer.decoder)) | _kinds(_state(tokenizer.pre_tokenizer))
    spell = _byte_level_bytes if "ByteLevel" in kinds else _marked_bytes
    for token, index in tokenizer.get_vocab(with_added_tokens=False).items():
        if index not in added:
            yield index, spell(token)
    for index, control in added.items():
        yield index, b"" if control.special else control.content.encode()


def _state(part: Any) -> Any:
    """A decoder or pre-tokenizer as tokenizer.json has it."""
    return None if part is None else json.loads(part.__getstate__())


def _kinds(state: Any) -> set[str]:
    """The type names in a decoder or pre-tokenizer and in all that it is composed of."""
    if not isinstance(state, dict):
        return set()
    parts = [*state.get("decoders", ()), *state.get("pretokenizers", ())]
    return {state.get("type", "")}.union(*map(_kinds, parts))


def _gpt2_alphabet() -> dict[str, int]:
    """GPT-2's characters for bytes: printable ones stand for themselves, the rest for 256 and up, in order."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + rank): byte for rank, byte in enumerate(others)}


_ALPHABET = _gpt2_alphabet()


def _byte_level_bytes(token: str) -> bytes:
    """A token of byte-level BPE; one that is not written in its alphabet means its own text."""
    try:
        return bytes(_ALPHABET[character] for character in token)
    except KeyError:
        return token.encode()


def _marked_bytes(token: str) -> bytes:
    """A token as SentencePiece writes it: ▁ is a space, <0x0A> a byte."""
    if len(token) == BYTE_TOKEN_LENGTH and token.startswith("<0x") and token.endswith(">"):
        try:
            return bytes.fromhex(token[3:5])
        except ValueError:
            return token.encode()
    return token.replace("▁", " ").encode()
