"""LoRA adapters: llama.cpp applies a set of them to a whole context."""

import ctypes
from collections.abc import Sequence
from typing import Any

from lmx.backends.base import LoadError
from lmx.backends.llama_cpp.library import errors, lib
from lmx.backends.llama_cpp.model import Model, require_gguf
from lmx.machines.types import Adapter


class Adapters:
    """Those of one model, each with its scale. They are freed with the model."""

    def __init__(self, model: Model, adapters: Sequence[Adapter] = ()) -> None:
        """Raises LoadError."""
        self._scales = [adapter.scale for adapter in adapters]
        self._handles = [_load(model, adapter.path) for adapter in adapters]

    def use(self, context: Any) -> bool:
        """Let all of them weigh in on every sequence of a llama_context; False when llama.cpp does not."""
        if not self._handles:
            return True
        count = len(self._handles)
        pointers = (ctypes.c_void_p * count)(*self._handles)
        first = ctypes.cast(pointers, ctypes.POINTER(ctypes.POINTER(ctypes.c_void_p)))
        errors.clear()
        return not lib.llama_set_adapters_lora(context, first, count, (ctypes.c_float * count)(*self._scales))


def _load(model: Model, path: str) -> int:
    require_gguf(path)
    errors.clear()
    handle = lib.llama_adapter_lora_init(model.handle, path.encode())
    if not handle:
        raise LoadError(f"{path} is no adapter for {model.path}: {errors.reason()}")
    return int(handle if isinstance(handle, int) else ctypes.cast(handle, ctypes.c_void_p).value or 0)
