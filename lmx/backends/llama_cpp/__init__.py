"""GGUF models through llama-cpp-python's low-level API; nothing else in lmx imports llama_cpp."""

from lmx.backends.llama_cpp.backend import LlamaCppBackend

__all__ = ["LlamaCppBackend"]
