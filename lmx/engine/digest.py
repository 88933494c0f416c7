"""Which files a model is made of, in one word: by sizes, times and samples, as reading all takes minutes."""

import os
import re
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from lmx.machines.types import ModelSpec

EDGE = 2**20
"""Of each file the first and last MiB are read: its header and some of its numbers,"""
SPREAD, BLOCK = 16, 2**16
"""and so many blocks in between."""
PART = re.compile(r"-\d{5}-of-\d{5}(?=\.gguf$)")
"""What marks a part of a model in several files."""
PATTERNS = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model", "*.txt")


def digest(spec: ModelSpec) -> str:
    """Of the model and of what is given with it. A file that cannot be read counts as that: the load decides."""
    whole = sha256(spec.backend.encode())
    for path in (spec.path, spec.chat_template, spec.mmproj, *(adapter.path for adapter in spec.adapters)):
        for file in _files(Path(path)) if path else ():
            whole.update(f"\0{file.name}\0".encode() + _sample(file))
    return whole.hexdigest()


def _files(path: Path) -> Iterable[Path]:
    if path.is_dir():
        return sorted(file for pattern in PATTERNS for file in path.glob(pattern))
    if PART.search(path.name):
        return sorted(path.parent.glob(PART.sub("-?????-of-?????", path.name)))
    return (path,)


def _sample(path: Path) -> bytes:
    """Size, time of the last change, and the digest of what is read."""
    try:
        return _read(path)
    except OSError as error:
        return str(error.strerror).encode()


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        stat = os.fstat(file.fileno())
        found = sha256(f"{stat.st_size} {stat.st_mtime_ns} ".encode())
        middle = max(0, stat.st_size - 2 * EDGE)
        found.update(file.read(EDGE))
        for number in range(SPREAD if middle > SPREAD * BLOCK else 0):
            file.seek(EDGE + middle * number // SPREAD)
            found.update(file.read(BLOCK))
        file.seek(max(EDGE, stat.st_size - EDGE) if middle > SPREAD * BLOCK else EDGE)
        found.update(file.read())
    return found.digest()
