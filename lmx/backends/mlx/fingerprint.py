"""One name for everything that a computed prompt depends on beside its tokens."""

import hashlib
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from lmx.backends.fingerprint import fingerprint
from lmx.backends.mlx.imports import mx
from lmx.machines.types import ModelSpec


def kv_key(spec: ModelSpec, *, draft: bool) -> str:
    """The same for the same files, whatever they are called, under the same library and settings."""
    digest = hashlib.blake2b(digest_size=16)
    facts = (version("mlx"), version("mlx-lm"), str(mx.default_device()), spec.kv_type)
    digest.update("\0".join(facts).encode())
    _add(digest, Path(spec.path))
    if draft:
        digest.update(b"\0draft")
        _add(digest, Path(spec.draft))
    for adapter in spec.adapters:
        digest.update(f"\0adapter {adapter.scale}".encode())
        _add(digest, Path(adapter.path))
    return f"mlx-{digest.hexdigest()}"


def _add(digest: "hashlib.blake2b", folder: Path) -> None:
    for file in _files(folder):
        digest.update(f"\0{file.name} {fingerprint(file)}".encode())


def _files(folder: Path) -> Iterable[Path]:
    return sorted([*folder.glob("*config.json"), *folder.glob("*.safetensors")])
