"""The KV cache and the compute buffers of one model: decodes batches; copies, cuts and forgets slots."""

import ctypes
from collections.abc import Sequence
from typing import Final

import numpy as np
import psutil
from numpy.typing import NDArray

from lmx.backends.base import CHUNKS_TOGETHER, LoadError
from lmx.backends.llama_cpp.batch import Batch, Part, RowBatch
from lmx.backends.llama_cpp.library import errors, lib, sizes
from lmx.backends.llama_cpp.model import Model
from lmx.backends.pictures import Tile
from lmx.machines.types import KvType, ModelSpec

Logits = NDArray[np.float32]
State = NDArray[np.uint8]
"""The content of a slot, as llama.cpp writes it."""

INVALID = -1
"""llama_decode's code for a batch that it rejects."""
CONTEXT_UNIT = 256
"""llama.cpp rounds the context of a sequence up to a multiple of this."""
FLASH_AUTO, FLASH_OFF, FLASH_ON = -1, 0, 1
KV_TYPES: Final[dict[KvType, int]] = {"f16": 1, "q8_0": 8, "q4_0": 2}
"""ggml's numbers for them."""
TOLD = 64
"""Prompt tokens of a step whose log-probabilities are wanted, at most: each needs a row of logits."""
GUESSING = 4
"""Rows of a step that may have guesses; with more of them it computes enough as it is."""


class Context:
    """`slots` sequences of `length` tokens each; see `_params` for what the spec decides."""

    def __init__(self, model: Model, spec: ModelSpec) -> None:
        self.slots = spec.slots
        wanted = min(spec.context, model.train_context)
        params = _params(spec, wanted)
        errors.clear()
        sizes.clear()
        self.handle = lib.llama_init_from_model(model.handle, params)
        if not self.handle:
            raise LoadError(
                f"{model.path} has no room for {spec.slots} sequences of {wanted} tokens of {spec.kv_type} KV: "
                f"{errors.reason()}; choose a smaller context, fewer slots or another kv_type"
            )
        self._memory = lib.llama_get_memory(self.handle)
        if not self._memory:
            self.close()
            raise LoadError(f"{model.path} keeps no KV cache, so it cannot generate; choose a decoder model")
        self.kv_bytes = sizes.total()
        self.unified = bool(params.kv_unified)
        self.flash = FLASH_NAMES[params.flash_attn_type]
        self.length = int(min(wanted, lib.llama_n_ctx_seq(self.handle)))
        self._row = ctypes.c_float * model.vocab.size
        self._batch = Batch(lib.llama_n_batch(self.handle))
        self._scratch: State = np.empty(0, np.uint8)
        self.batch_tokens = self._batch.size
        self._together = int(params.n_ubatch)
        self.outputs = int(params.n_outputs_max)
        """Tokens of a batch that may have logits. More abort the process."""
        self.threads = int(lib.llama_n_threads(self.handle))
        """As wanted; see ThreadGovernor for what is used."""
        self.trims = not model.has_state and not lib.llama_model_n_swa(model.handle) and self._tries_to_trim()
        """A slot may be cut anywhere. Otherwise there is no way back but whole copies."""

    def decode(self, parts: Sequence[Part]) -> int:
        """Compute `parts`, which are in the order of their slots; returns llama_decode's code."""
        self._batch.fill(parts)
        errors.clear()
        return int(lib.llama_decode(self.handle, self._batch.native))

    def decode_tile(self, slot: int, start: int, tile: Tile) -> int:
        """Compute the rows of an image; returns llama_decode's code, INVALID where they cannot be read together."""
        if len(tile.ids) > (self._together if tile.whole else self.batch_tokens):
            return INVALID
        errors.clear()
        batch = RowBatch(slot, start, tile.rows)
        lib.llama_set_causal_attn(self.handle, not tile.whole)
        try:
            return int(lib.llama_decode(self.handle, batch.native))
        finally:
            lib.llama_set_causal_attn(self.handle, True)

    def logits(self, index: int) -> Logits:
        """The logits of the batch's token `index`: a view, good until the next decode."""
        first = lib.llama_get_logits_ith(self.handle, index).contents
        row: Logits = np.frombuffer(self._row.from_address(ctypes.addressof(first)), np.float32)  # type: ignore[call-overload]
        return row

    def used(self, slot: int) -> int:
        """How many tokens of `slot` are in the KV cache."""
        return int(lib.llama_memory_seq_pos_max(self._memory, slot)) + 1

    def forget(self, slot: int) -> None:
        """Drop all of `slot`; the one removal that every kind of memory allows at any time."""
        lib.llama_memory_seq_rm(self._memory, slot, -1, -1)

    def cut(self, slot: int, tokens: int) -> bool:
        """Leave the first `tokens` tokens of `slot`; False when its memory cannot go back."""
        return bool(lib.llama_memory_seq_rm(self._memory, slot, tokens, -1))

    def copy(self, source: int, slot: int, tokens: int) -> bool:
        """Get the first `tokens` tokens of `source` into `slot`, and maybe more: cut it afterwards.

        A shared cache does that by reference. Otherwise llama.cpp copies the whole room of a slot, and only before the
        next decode: going through host memory costs as much as there is in the slot, and is done at once.
        """
        if self.unified and self.trims:
            self.forget(slot)
            lib.llama_memory_seq_cp(self._memory, source, slot, 0, tokens)
            return True
        size = lib.llama_state_seq_get_size(self.handle, source)
        if self._scratch.size < size:
            self._scratch = np.empty(size, np.uint8)
        written = lib.llama_state_seq_get_data(self.handle, _bytes(self._scratch), size, source)
        return bool(written) and self.load(slot, self._scratch[:written])

    def save(self, slot: int) -> State | None:
        """What is in `slot`, in host memory; None when llama.cpp cannot write it."""
        state = np.empty(lib.llama_state_seq_get_size(self.handle, slot), np.uint8)
        written = lib.llama_state_seq_get_data(self.handle, _bytes(state), state.size, slot)
        return state[:written] if written else None

    def load(self, slot: int, state: State) -> bool:
        """Put what `save` gave into `slot`; False when it does not fit, and then `slot` must be forgotten."""
        return bool(lib.llama_state_seq_set_data(self.handle, _bytes(state), state.size, slot))

    def trim(self) -> None:
        """Give memory back that copies go through."""
        self._scratch = np.empty(0, np.uint8)

    def wipe(self) -> None:
        """Drop all slots and zero the cache: a NaN left in it reaches the next sequence through masked attention."""
        lib.llama_memory_clear(self._memory, True)

    def set_threads(self, count: int) -> None:
        """For the decodes that follow."""
        lib.llama_set_n_threads(self.handle, count, count)

    def set_warm_up(self, on: bool) -> None:
        """While on, a decode touches all weights (every expert of a mixture)."""
        lib.llama_set_warmup(self.handle, on)

    def close(self) -> None:
        lib.llama_free(self.handle)

    def _tries_to_trim(self) -> bool:
        """No property of a model tells: compute two tokens and take the second one back."""
        tried = not self.decode([Part(0, 0, (0, 0))]) and self.cut(0, 1)
        self.forget(0)
        return tried


FLASH_NAMES: Final = {FLASH_AUTO: "auto", FLASH_OFF: "off", FLASH_ON: "on"}


def physical_cores() -> int:
    return psutil.cpu_count(logical=False) or psutil.cpu_count() or 1


def _params(spec: ModelSpec, context: int) -> lib.llama_context_params:
    limit = lib.llama_max_parallel_sequences()
    if spec.slots > limit:
        raise LoadError(f"{spec.path} cannot have {spec.slots} slots; llama.cpp allows {limit}")
    params: lib.llama_context_params = lib.llama_context_default_params()
    params.n_ctx = -(-context // CONTEXT_UNIT) * CONTEXT_UNIT * spec.slots
    params.n_seq_max = spec.slots
    params.n_outputs_max = spec.slots + TOLD + (GUESSING * spec.draft_tokens if spec.speculation != "off" else 0)
    chunk = max(spec.prefill_chunk, CONTEXT_UNIT)
    params.n_ubatch = params.n_outputs_max + chunk
    params.n_batch = params.n_outputs_max + CHUNKS_TOGETHER * chunk
    params.n_threads = params.n_threads_batch = spec.threads or physical_cores()
    params.kv_unified = spec.kv_layout == "unified"
    params.type_k = params.type_v = KV_TYPES[spec.kv_type]
    params.swa_full = False  # the window is enough: such models are taken up again by whole snapshots only
    params.flash_attn_type = _flash(spec)
    return params


def _flash(spec: ModelSpec) -> int:
    """On a CPU it is slower wherever little is computed over a long cache (docs/measurements.md)."""
    quantised = spec.kv_type != "f16"
    if quantised and spec.flash_attention == "off":
        raise LoadError(f"{spec.path}: kv_type {spec.kv_type} needs flash attention; set flash_attention to auto or on")
    if quantised or spec.flash_attention == "on":
        return FLASH_ON
    return FLASH_AUTO if spec.flash_attention == "auto" and lib.llama_supports_gpu_offload() else FLASH_OFF


def _bytes(state: State) -> ctypes.Array[ctypes.c_uint8]:
    """As ctypes wants it; llama.cpp does not write where it only reads."""
    return (ctypes.c_uint8 * state.size).from_address(state.ctypes.data)
