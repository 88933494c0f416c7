"""What a computed prompt depends on beside its tokens, as one string."""

import re
from collections.abc import Iterable
from pathlib import Path

import llama_cpp

from lmx.backends.fingerprint import fingerprint
from lmx.backends.llama_cpp.context import Context
from lmx.backends.llama_cpp.library import lib
from lmx.backends.llama_cpp.model import Model
from lmx.machines.types import ModelSpec

PART = re.compile(r"-\d{5}-of-(\d{5})(?=\.gguf$)")
"""What marks a part of a model in several files."""


def kv_key(spec: ModelSpec, model: Model, context: Context) -> str:
    """Equal for two loads only if the one can take up what the other computed."""
    files = ",".join(fingerprint(path) for path in _parts(Path(spec.path)))
    adapters = ",".join(f"{fingerprint(Path(adapter.path))}*{adapter.scale}" for adapter in spec.adapters)
    layout = f"{'unified' if context.unified else 'streams'}{context.slots}"
    rope = " long-rope" if _stretched(model, context) else ""
    return f"llama.cpp {llama_cpp.__version__} {files} [{adapters}] {spec.kv_type} flash-{context.flash} {layout}{rope}"


def _stretched(model: Model, context: Context) -> bool:
    """LongRoPE turns every position by other factors as soon as a context is longer than the original one."""
    original = model.metadata(f"{model.metadata('general.architecture')}.rope.scaling.original_context_length")
    return original.isdigit() and lib.llama_n_ctx_seq(context.handle) > int(original)


def _parts(path: Path) -> Iterable[Path]:
    found = PART.search(path.name)
    if not found:
        return (path,)
    count = int(found[1])
    return [path.with_name(PART.sub(f"-{part:05}-of-{count:05}", path.name)) for part in range(1, count + 1)]
