"""The KV cache and the compute buffers of one model: decodes batches, forgets slots."""

import ctypes
from collections.abc import Sequence

import numpy as np
import psutil

from lmx.backends.base import LoadError
from lmx.backends.llama_cpp.batch import Batch, Part
from lmx.backends.llama_cpp.library import errors, lib
from lmx.backends.llama_cpp.model import Model
from lmx.backends.sampling import Logits
from lmx.machines.types import ModelSpec

CONTEXT_UNIT = 256
"""llama.cpp rounds the context of a sequence up to a multiple of this."""
BATCH_TOKENS = 512
FLASH_AUTO, FLASH_OFF = -1, 0


class Context:
    """`slots` sequences of `length` tokens each, with a KV cache of their own (kv_unified off)."""

    def __init__(self, model: Model, spec: ModelSpec) -> None:
        self.slots = spec.slots
        wanted = min(spec.context, model.train_context)
        errors.clear()
        self._handle = lib.llama_init_from_model(model.handle, _params(spec, wanted))
        if not self._handle:
            raise LoadError(
                f"{model.path} has no room for {spec.slots} sequences of {wanted} tokens: {errors.reason()}; "
                "choose a smaller context or fewer slots"
            )
        self._memory = lib.llama_get_memory(self._handle)
        if not self._memory:
            self.close()
            raise LoadError(f"{model.path} keeps no KV cache, so it cannot generate; choose a decoder model")
        self.length = min(wanted, lib.llama_n_ctx_seq(self._handle))
        self._row = ctypes.c_float * model.vocab.size
        self._batch = Batch(lib.llama_n_batch(self._handle))
        self.batch_tokens = self._batch.size
        self.threads = int(lib.llama_n_threads(self._handle))
        """As wanted; see ThreadGovernor for what is used."""

    def decode(self, parts: Sequence[Part]) -> int:
        """Compute `parts`, which are in the order of their slots; returns llama_decode's code."""
        self._batch.fill(parts)
        errors.clear()
        return int(lib.llama_decode(self._handle, self._batch.native))

    def logits(self, index: int) -> Logits:
        """The logits of the batch's token `index`: a view, good until the next decode."""
        first = lib.llama_get_logits_ith(self._handle, index).contents
        row: Logits = np.frombuffer(self._row.from_address(ctypes.addressof(first)), np.float32)  # type: ignore[call-overload]
        return row

    def used(self, slot: int) -> int:
        """How many tokens of `slot` are in the KV cache."""
        return int(lib.llama_memory_seq_pos_max(self._memory, slot)) + 1

    def forget(self, slot: int) -> None:
        """Drop all of `slot`; the one removal that every kind of memory allows at any time."""
        lib.llama_memory_seq_rm(self._memory, slot, -1, -1)

    def wipe(self) -> None:
        """Drop all slots and zero the cache: a NaN left in it reaches the next sequence through masked attention."""
        lib.llama_memory_clear(self._memory, True)

    def set_threads(self, count: int) -> None:
        """For the decodes that follow."""
        lib.llama_set_n_threads(self._handle, count, count)

    def set_warm_up(self, on: bool) -> None:
        """While on, a decode touches all weights (every expert of a mixture)."""
        lib.llama_set_warmup(self._handle, on)

    def close(self) -> None:
        lib.llama_free(self._handle)


def physical_cores() -> int:
    return psutil.cpu_count(logical=False) or psutil.cpu_count() or 1


def _params(spec: ModelSpec, context: int) -> lib.llama_context_params:
    limit = lib.llama_max_parallel_sequences()
    if spec.slots > limit:
        raise LoadError(f"{spec.path} cannot have {spec.slots} slots; llama.cpp allows {limit}")
    params: lib.llama_context_params = lib.llama_context_default_params()
    params.n_ctx = -(-context // CONTEXT_UNIT) * CONTEXT_UNIT * spec.slots
    params.n_seq_max = params.n_outputs_max = spec.slots
    params.n_batch = params.n_ubatch = max(BATCH_TOKENS, spec.slots + spec.prefill_chunk)
    params.n_threads = params.n_threads_batch = spec.threads or physical_cores()
    params.kv_unified = False
    params.swa_full = False  # the window is enough: no part of a sequence is ever taken up again
    params.flash_attn_type = FLASH_AUTO if lib.llama_supports_gpu_offload() else FLASH_OFF
    return params
