"""The loaded weights: which files are taken, what the model says about itself."""

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

from lmx.backends.base import LoadAborted, LoadError
from lmx.backends.llama_cpp.library import errors, lib
from lmx.backends.llama_cpp.vocab import Vocab

MAGIC = b"GGUF"
HEADER_BYTES = 24
"""Magic, version, number of tensors, number of metadata entries."""


class Model:
    """A model in memory. Constructing it raises LoadError or LoadAborted; `close` gives it back."""

    def __init__(self, path: str, progress: Callable[[float], bool]) -> None:
        require_gguf(path)
        self.path = path
        self.handle = _load(path, progress)
        self.vocab = Vocab(lib.llama_model_get_vocab(self.handle))
        if refusal := self._refusal():
            self.close()
            raise LoadError(f"{path} {refusal}")
        self.train_context = lib.llama_model_n_ctx_train(self.handle)
        self.weights_bytes = lib.llama_model_size(self.handle)
        self.has_state = bool(lib.llama_model_is_recurrent(self.handle) or lib.llama_model_is_hybrid(self.handle))
        template = lib.llama_model_chat_template(self.handle, None)
        self.chat_template = template.decode("utf-8", "replace") if template else None

    def close(self) -> None:
        lib.llama_model_free(self.handle)

    @property
    def generates(self) -> bool:
        """It writes text; other models only embed or score."""
        architecture = self.metadata("general.architecture")
        pooled = self.metadata(f"{architecture}.pooling_type") not in ("", "0")
        causal = self.metadata(f"{architecture}.attention.causal") != "false"
        return causal and not pooled and not lib.llama_model_has_encoder(self.handle)

    def _refusal(self) -> str | None:
        """Why this model is of no use here; None when it is."""
        if not self.vocab.size:
            return "has no vocabulary; convert the model again with its tokenizer"
        both = lib.llama_model_has_encoder(self.handle) and lib.llama_model_has_decoder(self.handle)
        if both or lib.llama_model_is_diffusion(self.handle):
            architecture = self.metadata("general.architecture")
            return f"is a {architecture} model, which does not write token by token; choose a decoder-only model"
        return None

    def metadata(self, key: str) -> str:
        """A short metadata value as text; empty when the file does not have it."""
        buffer = ctypes.create_string_buffer(256)
        length = lib.llama_model_meta_val_str(self.handle, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if length >= 0 else ""


def require_gguf(path: str) -> None:
    """Raise LoadError unless `path` looks like a whole GGUF file. Costs one read of a few bytes."""
    file = Path(path)
    if file.is_dir():
        raise LoadError(f"{path} is a folder; give the .gguf file inside it")
    if not file.exists():
        raise LoadError(f"{path} does not exist; check the model's path")
    try:
        with file.open("rb") as stream:
            header = stream.read(HEADER_BYTES)
    except OSError as error:
        raise LoadError(f"{path} cannot be read: {error.strerror}; check its permissions") from error
    if not header.startswith(MAGIC):
        raise LoadError(f"{path} is not a GGUF file; give one, or use the mlx backend for a folder of safetensors")
    if len(header) < HEADER_BYTES:
        raise LoadError(f"{path} is cut off after {len(header)} bytes; download it again")


def _load(path: str, progress: Callable[[float], bool]) -> lib.llama_model_p:
    aborted = False

    def report(fraction: float, _data: object) -> bool:
        nonlocal aborted
        aborted = not progress(fraction)
        return not aborted

    params = lib.llama_model_default_params()
    params.n_gpu_layers = -1
    params.progress_callback = lib.llama_progress_callback(report)
    errors.clear()
    handle: lib.llama_model_p | None = lib.llama_model_load_from_file(os.fsencode(path), params)
    if aborted:
        if handle:
            lib.llama_model_free(handle)
        raise LoadAborted
    if not handle:
        size = Path(path).stat().st_size
        text = f"{path} ({size} bytes) cannot be loaded: {errors.reason()}"
        raise LoadError(f"{text}; check that the file is complete and supported")
    return handle
