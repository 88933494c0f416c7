"""Backends by name; each is imported only in the worker that needs it."""

from typing import assert_never

from lmx.backends.base import Backend, LoadError
from lmx.machines.types import BackendName


def open_backend(name: BackendName) -> Backend:
    """Raises LoadError when the backend's library is not installed."""
    try:
        match name:
            case "mlx":
                from lmx.backends.mlx import MlxBackend

                return MlxBackend()
            case "llama_cpp":
                from lmx.backends.llama_cpp import LlamaCppBackend

                return LlamaCppBackend()
            case "fake":
                from lmx.backends.fake import FakeBackend

                return FakeBackend()
            case _:
                assert_never(name)
    except ModuleNotFoundError as error:
        extra = "mlx" if name == "mlx" else "gguf"
        raise LoadError(f"The {name} backend needs the '{extra}' extra: {error.name} is not installed.") from error
