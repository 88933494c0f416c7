"""llama_decode on a numpy batch and argmax on its logits; nothing of lmx's own backend is used.

usage: python -m lmx.bench.bare.llama FILE.gguf THREADS
"""

import ctypes
import os
import statistics
import sys
from time import perf_counter
from typing import Any

os.environ.setdefault("GGML_NO_BACKTRACE", "1")

import numpy as np
from llama_cpp import llama_cpp as lib
from numpy.typing import NDArray

from lmx.bench.wire import Extend, Generate, Task, Timing, obey

CHUNK = 512
FLASH_AUTO, FLASH_OFF = -1, 0
UNIT = 256
"""llama.cpp rounds the room of a sequence up to a multiple of this."""

Ints = NDArray[np.int32]


class Batch:
    """A llama_batch of numpy arrays."""

    def __init__(self) -> None:
        self.tokens, self.positions, self.slots = (np.zeros(CHUNK, np.int32) for _ in range(3))
        self.logits = np.zeros(CHUNK, np.int8)
        self._counts = np.ones(CHUNK, np.int32)
        self._pointers = self.slots.ctypes.data + 4 * np.arange(CHUNK, dtype=np.uintp)
        self.native = lib.llama_batch(
            n_tokens=0,
            token=_pointer(self.tokens, ctypes.c_int32),
            embd=None,
            pos=_pointer(self.positions, ctypes.c_int32),
            n_seq_id=_pointer(self._counts, ctypes.c_int32),
            seq_id=_pointer(self._pointers, ctypes.POINTER(ctypes.c_int32)),
            logits=_pointer(self.logits, ctypes.c_int8),
        )


class Loop:
    """One model; a context as small as the task allows, which is what makes it the fastest."""

    def __init__(self, path: str, threads: int) -> None:
        self._log = lib.llama_log_callback(lambda *_: None)  # the library keeps the bare pointer: hold the object
        lib.llama_log_set(self._log, None)
        lib.llama_backend_init()
        params = lib.llama_model_default_params()
        params.n_gpu_layers = -1
        self._model = lib.llama_model_load_from_file(os.fsencode(path), params)
        if not self._model:
            raise SystemExit(f"llama.cpp cannot load {path}")
        self._vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self._model))
        self._threads = threads
        self._shape = (0, 0)
        self._context: Any = None
        self._batch = Batch()
        self._random = np.random.default_rng(0)

    def act(self, task: Task) -> Timing:
        match task:
            case Generate(lengths, tokens):
                return self._generate(lengths, tokens)
            case Extend(known, new, times):
                return self._extend(known, new, times)

    def _generate(self, lengths: tuple[int, ...], tokens: int) -> Timing:
        prompts = [self._tokens(length) for length in lengths]
        self._prepare(len(lengths), max(lengths) + tokens)
        began = perf_counter()
        last = np.array([self._read(slot, 0, prompt) for slot, prompt in enumerate(prompts)], np.int32)
        read = perf_counter()
        self._write(last, np.array(lengths, np.int32), tokens - 1)
        return Timing(read - began, perf_counter() - read)

    def _extend(self, known: int, new: int, times: int) -> Timing:
        self._prepare(1, known + new)
        self._read(0, 0, self._tokens(known))
        return Timing(statistics.median(self._again(known, new) for _ in range(times)))

    def _again(self, known: int, new: int) -> float:
        tokens = self._tokens(new)
        began = perf_counter()
        self._read(0, known, tokens)
        seconds = perf_counter() - began
        lib.llama_memory_seq_rm(lib.llama_get_memory(self._context), 0, known, -1)
        return seconds

    def _read(self, slot: int, start: int, tokens: Ints) -> int:
        """Compute a prompt, or a part of it that begins at `start`; the token that follows."""
        batch = self._batch
        for begin in range(0, len(tokens), CHUNK):
            part = tokens[begin : begin + CHUNK]
            end = len(part)
            batch.tokens[:end] = part
            batch.positions[:end] = np.arange(start + begin, start + begin + end)
            batch.slots[:end] = slot
            batch.logits[:end] = 0
            batch.logits[end - 1] = begin + end == len(tokens)
            self._decode(end)
        return self._best(end - 1)

    def _write(self, tokens: Ints, positions: Ints, steps: int) -> None:
        """Decode all rows together."""
        batch, rows = self._batch, len(tokens)
        batch.tokens[:rows], batch.positions[:rows], batch.slots[:rows] = tokens, positions, np.arange(rows)
        batch.logits[:rows] = 1
        for _ in range(steps):
            self._decode(rows)
            batch.tokens[:rows] = [self._best(row) for row in range(rows)]
            batch.positions[:rows] += 1

    def _decode(self, tokens: int) -> None:
        self._batch.native.n_tokens = tokens
        if code := lib.llama_decode(self._context, self._batch.native):
            raise SystemExit(f"llama_decode returned {code}")

    def _best(self, index: int) -> int:
        logits = lib.llama_get_logits_ith(self._context, index)
        return int(np.ctypeslib.as_array(logits, shape=(self._vocab,)).argmax())

    def _tokens(self, count: int) -> Ints:
        return self._random.integers(0, self._vocab, count, np.int32)

    def _prepare(self, rows: int, length: int) -> None:
        """An empty context with room for so many rows of this length, one step old."""
        room = -(-(length + 1) // UNIT) * UNIT
        if self._shape != (rows, room):
            if self._context:
                lib.llama_free(self._context)
            self._shape = (rows, room)
            self._context = lib.llama_init_from_model(self._model, self._params(rows, room))
        self._clear()
        self._read(0, 0, self._tokens(1))
        self._clear()

    def _clear(self) -> None:
        lib.llama_memory_clear(lib.llama_get_memory(self._context), True)

    def _params(self, rows: int, room: int) -> Any:
        params = lib.llama_context_default_params()
        params.n_ctx = rows * room
        params.n_seq_max = params.n_outputs_max = rows
        params.n_batch = params.n_ubatch = CHUNK
        params.n_threads = params.n_threads_batch = self._threads
        params.kv_unified = False
        params.flash_attn_type = FLASH_AUTO if lib.llama_supports_gpu_offload() else FLASH_OFF
        return params


def _pointer(array: NDArray[Any], to: Any) -> Any:
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(to))


if __name__ == "__main__":
    obey(Task, Loop(sys.argv[1], int(sys.argv[2])).act)
