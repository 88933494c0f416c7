"""Text to token ids and back, on the model's vocabulary. Thread-safe: the library only reads here."""

import ctypes

from lmx.backends.llama_cpp.library import lib

NO_VOCAB = 0


class Vocab:
    def __init__(self, handle: lib.llama_vocab_p) -> None:
        self._handle = handle
        known = lib.llama_vocab_type(handle) != NO_VOCAB
        self.size = lib.llama_vocab_n_tokens(handle) if known else 0

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Token ids without BOS or EOS; `special` lets control tokens written in `text` count."""
        data = text.encode("utf-8", "replace")
        room = len(data) + 8
        while True:
            ids = (lib.llama_token * room)()
            count = lib.llama_tokenize(self._handle, data, len(data), ids, room, False, special)
            if count >= 0:
                return list(ids[:count])
            room = -count

    def token_bytes(self) -> list[bytes]:
        """What each token adds to the text; nothing for control tokens."""
        return [self.piece(token, special=False) for token in range(self.size)]

    def controls(self) -> dict[int, str]:
        """How each control token is written in a prompt."""
        controls = [token for token in range(self.size) if lib.llama_vocab_is_control(self._handle, token)]
        return {token: self.piece(token, special=True).decode("utf-8", "replace") for token in controls}

    def piece(self, token: int, *, special: bool) -> bytes:
        """The bytes of one token; `special` writes control tokens out too. Empty for no token (-1)."""
        if token < 0:
            return b""
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            length = lib.llama_token_to_piece(self._handle, token, buffer, room, 0, special)
            if length >= 0:
                return buffer.raw[:length]
            room = -length

    def end_tokens(self) -> frozenset[int]:
        return frozenset(token for token in range(self.size) if lib.llama_vocab_is_eog(self._handle, token))

    def banned_tokens(self) -> list[int]:
        """Tokens that the model must never write, by its own metadata."""
        count = ctypes.c_int32()
        ids = lib.llama_vocab_get_suppress_tokens(self._handle, ctypes.byref(count))
        return list(ids[: count.value]) if ids else []

    def bos(self) -> int | None:
        """The token that the model wants in front of every text; None when it wants none."""
        return lib.llama_vocab_bos(self._handle) if lib.llama_vocab_get_add_bos(self._handle) else None

    def bos_text(self) -> str:
        return self.piece(lib.llama_vocab_bos(self._handle), special=True).decode("utf-8", "replace")

    def eos_text(self) -> str:
        return self.piece(lib.llama_vocab_eos(self._handle), special=True).decode("utf-8", "replace")
