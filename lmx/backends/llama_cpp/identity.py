"""What a computed prompt depends on beside its tokens, as one string."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import llama_cpp

from lmx.backends.llama_cpp.context import Context
from lmx.machines.types import ModelSpec

MIB = 2**20
PART = re.compile(r"-\d{5}-of-(\d{5})(?=\.gguf$)")
"""What marks a part of a model in several files."""


def kv_key(spec: ModelSpec, context: Context) -> str:
    """Equal for two loads only if the one can take up what the other computed."""
    files = ",".join(_fingerprint(path) for path in _parts(Path(spec.path)))
    adapters = ",".join(f"{_fingerprint(Path(adapter.path))}*{adapter.scale}" for adapter in spec.adapters)
    layout = f"{'unified' if context.unified else 'streams'}{context.slots}"
    return f"llama.cpp {llama_cpp.__version__} {files} [{adapters}] {spec.kv_type} flash-{context.flash} {layout}"


def _parts(path: Path) -> Iterable[Path]:
    found = PART.search(path.name)
    if not found:
        return (path,)
    count = int(found[1])
    return [path.with_name(PART.sub(f"-{part:05}-of-{count:05}", path.name)) for part in range(1, count + 1)]


def _fingerprint(path: Path) -> str:
    """By size, header and last tensors: reading all of a model takes minutes."""
    size = path.stat().st_size
    with path.open("rb") as file:
        digest = hashlib.blake2b(file.read(MIB), digest_size=16)
        file.seek(max(0, size - MIB))
        digest.update(file.read())
    return f"{size}-{digest.hexdigest()}"
