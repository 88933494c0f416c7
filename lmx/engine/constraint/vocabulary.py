"""The model's tokens as llguidance sees them."""

from collections.abc import Callable, Sequence

import numpy as np
from llguidance import LLTokenizer
from numpy.typing import NDArray

from lmx.backends.base import Info

Words = NDArray[np.uint32]
"""One bit a token, lowest first."""

WORD = 32
NOT_TEXT = b"\xff"
"""No UTF-8 begins with this byte; llguidance marks control tokens with it."""
PROBE = "\x02"
"""A character that no tokenizer joins with the next one."""


class Vocabulary:
    def __init__(self, info: Info, encode: Callable[[str], list[int]]) -> None:
        """Takes seconds for 10⁵ tokens and more; `encode` must be thread-safe."""
        ends = sorted(token for token in info.eos if token < info.vocab)
        pieces = [b"" if piece.startswith(NOT_TEXT) else piece for piece in info.token_bytes]
        for token in ends:  # what ends the sequence is never text, whatever it looks like
            pieces[token] = b""
        self.ends = frozenset(ends)
        self.end_words = _words(len(pieces), ends)
        self.writable = _words(len(pieces), [token for token, piece in enumerate(pieces) if piece]) | self.end_words
        """Tokens that add to the text or end it. A grammar could name others by number."""
        speller = _Speller(pieces, ends[0] if ends else None, encode)
        self.tokenizer = LLTokenizer(speller, eos_token=ends or None)  # type: ignore[arg-type]
        speller.tokenizer = self.tokenizer


class _Speller:
    """What llguidance asks of a tokenizer: its tokens, and how the model itself would write a text."""

    is_tokenizer_wrapper = True
    bos_token_id = None
    special_token_ids = ()

    def __init__(self, tokens: list[bytes], eos: int | None, encode: Callable[[str], list[int]]) -> None:
        self.tokens = tokens
        self.eos_token_id = eos
        self.tokenizer: LLTokenizer | None = None
        self._encode = encode

    def __call__(self, text: str) -> list[int]:
        """Tokens that make exactly this text; some tokenizers put a space in front of every text."""
        data = text.encode()
        tokens = self._encode(text)
        if self._spelled(tokens) == data:
            return tokens
        tokens = self._encode(PROBE + text)
        for start in range(1, len(tokens)):
            if self._spelled(tokens[start:]) == data:
                return tokens[start:]
        return self.tokenizer.greedy_tokenize(text) if self.tokenizer is not None else []

    def _spelled(self, tokens: Sequence[int]) -> bytes:
        return b"".join(self.tokens[token] for token in tokens)


def _words(size: int, tokens: Sequence[int]) -> Words:
    bits = np.zeros(-(-size // WORD) * WORD, np.uint8)
    bits[tokens] = 1
    return np.packbits(bits, bitorder="little").view(np.uint32)
