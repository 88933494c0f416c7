"""Handles as bytes: a checked JSON header, then the arrays as they lie in memory."""

import json
import math
import struct
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from lmx.backends.mlx.handle import CacheHandle
from lmx.backends.mlx.imports import mx

MAGIC = b"lmxkv\x00\x01\n"
HEAD = struct.Struct("<8sIIII")
"""Magic; length and CRC of the header; CRC of the arrays; CRC of what is before."""

NUMPY = {"bfloat16": "uint16"}
"""What numpy has no name for goes by its bits."""

ARRAY = "array"


def save(handle: CacheHandle, key: str) -> list[memoryview]:
    """The pieces share the handle's memory, and keep it."""
    kinds, data = [], []

    def plain(value: Any) -> Any:
        """A cache's state as JSON; arrays by their number."""
        if isinstance(value, mx.array):
            kinds.append((str(value.dtype).rpartition(".")[2], value.shape))
            data.append(_bytes(value))
            return {ARRAY: len(data) - 1}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    states = [[type(cache).__name__, plain(cache.state)] for cache in handle.caches]
    header = json.dumps({"key": key, "tokens": handle.tokens, "states": states, "arrays": kinds}).encode()
    start = HEAD.pack(MAGIC, len(header), zlib.crc32(header), _crc(data), 0)
    start = start[:-4] + struct.pack("<I", zlib.crc32(start[:-4]))
    return [memoryview(start + header), *data]


def restore(data: memoryview, key: str, tokens: int, caches: list[Any]) -> CacheHandle | None:
    """What `save` wrote, in `caches` made for it; None for bytes of another model, or damaged ones."""
    header = _header(data)
    if header is None or (header["key"], header["tokens"]) != (key, tokens):
        return None
    if [type(cache).__name__ for cache in caches] != [name for name, _ in header["states"]]:
        return None
    found = _arrays(data, header["arrays"])
    for cache, (_, state) in zip(caches, header["states"], strict=True):
        cache.state = _tree(state, found)
    return CacheHandle(caches, tokens)


def _header(data: memoryview) -> dict[str, Any] | None:
    """The header, once all of `data` is found to be whole."""
    if len(data) < HEAD.size:
        return None
    magic, length, header_crc, data_crc, own_crc = HEAD.unpack(data[: HEAD.size])
    text = data[HEAD.size : HEAD.size + length]
    if magic != MAGIC or own_crc != zlib.crc32(data[: HEAD.size - 4]):
        return None
    if len(text) != length or zlib.crc32(text) != header_crc:
        return None
    if zlib.crc32(data[HEAD.size + length :]) != data_crc:
        return None
    header: dict[str, Any] = json.loads(bytes(text))
    return header


def _arrays(data: memoryview, kinds: Iterable[tuple[str, list[int]]]) -> list[mx.array]:
    """Arrays of their own, in the order in which they were written."""
    start = HEAD.size + HEAD.unpack(data[: HEAD.size])[1]
    found = []
    for name, shape in kinds:
        kind = np.dtype(NUMPY.get(name, name))
        values = np.frombuffer(data, kind, math.prod(shape), start).reshape(shape)
        found.append(mx.array(values).view(getattr(mx, name)))
        start += values.nbytes
    return found


def _tree(state: Any, found: list[mx.array]) -> Any:
    if isinstance(state, dict):
        return found[state[ARRAY]]
    return [_tree(item, found) for item in state] if isinstance(state, list) else state


def _bytes(array: mx.array) -> memoryview:
    name = str(array.dtype).rpartition(".")[2]
    values = array.view(getattr(mx, NUMPY[name])) if name in NUMPY else array
    flat: Any = np.asarray(values).reshape(-1)
    return memoryview(flat).cast("B")


def _crc(data: Iterable[memoryview]) -> int:
    crc = 0
    for piece in data:
        crc = zlib.crc32(piece, crc)
    return crc
