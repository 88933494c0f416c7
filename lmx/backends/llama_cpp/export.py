"""A slot's content as bytes of a file. llama.cpp trusts what it is given, so nothing unchecked goes back to it."""

import hashlib
import struct
import zlib
from typing import Final

import numpy as np

from lmx.backends.llama_cpp.context import State

MAGIC: Final = b"lmx-kv\x00\x01"
HEADER: Final = struct.Struct("<8s16sQQI")
"""Magic, what it was computed with, its tokens, its length, its checksum."""


def pack(state: State, tokens: int, key: str) -> list[memoryview]:
    """`state` holds `tokens` tokens, computed by what `key` names."""
    header = HEADER.pack(MAGIC, _digest(key), tokens, state.size, zlib.crc32(state.data))
    return [memoryview(header), state.data]


def unpack(data: memoryview, tokens: int, key: str) -> State | None:
    """What `pack` was given; None when `data` is anything else. The bytes are not copied."""
    if len(data) < HEADER.size:
        return None
    magic, digest, count, length, checksum = HEADER.unpack_from(data)
    state: State = np.frombuffer(data, np.uint8, offset=HEADER.size)
    right = (magic, digest, count, length) == (MAGIC, _digest(key), tokens, state.size)
    return state if right and zlib.crc32(state.data) == checksum else None


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=16).digest()
