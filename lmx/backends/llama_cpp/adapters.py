"""LoRA adapters: llama.cpp applies one set of them to a whole context."""

import ctypes
from collections.abc import Sequence

from lmx.backends.base import LoadError
from lmx.backends.llama_cpp.context import Context
from lmx.backends.llama_cpp.library import errors, lib
from lmx.backends.llama_cpp.model import Model, require_gguf
from lmx.machines.types import Adapter


def use_adapters(model: Model, context: Context, adapters: Sequence[Adapter]) -> None:
    """Let all of them weigh in on every sequence. Raises LoadError. They are freed with the model."""
    if not adapters:
        return
    handles = [_load(model, adapter.path) for adapter in adapters]
    pointers = (ctypes.c_void_p * len(handles))(*handles)
    scales = (ctypes.c_float * len(handles))(*(adapter.scale for adapter in adapters))
    first = ctypes.cast(pointers, ctypes.POINTER(ctypes.POINTER(ctypes.c_void_p)))
    if lib.llama_set_adapters_lora(context.handle, first, len(handles), scales):
        raise LoadError(f"{adapters[0].path} cannot be applied to {model.path}: {errors.reason()}")


def _load(model: Model, path: str) -> int:
    require_gguf(path)
    errors.clear()
    handle = lib.llama_adapter_lora_init(model.handle, path.encode())
    if not handle:
        raise LoadError(f"{path} is no adapter for {model.path}: {errors.reason()}")
    return int(handle if isinstance(handle, int) else ctypes.cast(handle, ctypes.c_void_p).value or 0)
