"""A llama_batch whose fields are numpy arrays: filled by slices, never element by element."""

import ctypes
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmx.backends.llama_cpp.library import lib


class Part(NamedTuple):
    """Consecutive tokens of one slot, the first one at position `start`; the logits of the last `logits` are wanted."""

    slot: int
    start: int
    tokens: Sequence[int]
    logits: int = 1


class Batch:
    """Room for `size` tokens. llama.cpp aborts the process on a batch above its n_batch: `fill` refuses it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._tokens = np.zeros(size, np.int32)
        self._positions = np.zeros(size, np.int32)
        self._slots = np.zeros(size, np.int32)
        self._slot_counts = np.ones(size, np.int32)
        self._logits = np.zeros(size, np.int8)
        self._slot_pointers = self._slots.ctypes.data + self._slots.itemsize * np.arange(size, dtype=np.uintp)
        self.native = lib.llama_batch(
            n_tokens=0,
            token=_pointer(self._tokens, ctypes.c_int32),
            embd=None,
            pos=_pointer(self._positions, ctypes.c_int32),
            n_seq_id=_pointer(self._slot_counts, ctypes.c_int32),
            seq_id=_pointer(self._slot_pointers, ctypes.POINTER(ctypes.c_int32)),
            logits=_pointer(self._logits, ctypes.c_int8),
        )

    def fill(self, parts: Iterable[Part]) -> None:
        """Lay `parts` out one after another."""
        end = 0
        for part in parts:
            begin, end = end, end + len(part.tokens)
            if end > self.size:
                raise ValueError(f"a batch of more than {self.size} tokens")
            self._tokens[begin:end] = part.tokens
            self._positions[begin:end] = np.arange(part.start, part.start + end - begin)
            self._slots[begin:end] = part.slot
            self._logits[begin:end] = 0
            self._logits[end - part.logits : end] = 1
        self.native.n_tokens = end


class RowBatch:
    """The rows of one tile in `slot`, the first one at position `start`; no logits are wanted."""

    def __init__(self, slot: int, start: int, rows: NDArray[np.float32]) -> None:
        count = len(rows)
        self._kept = (
            np.ascontiguousarray(rows),
            np.arange(start, start + count, dtype=np.int32),
            np.full(count, slot, np.int32),
            np.ones(count, np.int32),
            np.zeros(count, np.int8),
        )
        numbers, positions, slots, counts, logits = self._kept
        self._pointers = slots.ctypes.data + slots.itemsize * np.arange(count, dtype=np.uintp)
        self.native = lib.llama_batch(
            n_tokens=count,
            token=None,
            embd=_pointer(numbers, ctypes.c_float),
            pos=_pointer(positions, ctypes.c_int32),
            n_seq_id=_pointer(counts, ctypes.c_int32),
            seq_id=_pointer(self._pointers, ctypes.POINTER(ctypes.c_int32)),
            logits=_pointer(logits, ctypes.c_int8),
        )


def _pointer(array: NDArray[Any], to: Any) -> Any:
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(to))
