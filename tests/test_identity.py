"""What a quarantine is kept for."""

import os
from pathlib import Path

from msgspec.structs import replace

from lmx import __version__, identity
from lmx.identity import host, quarantine_key
from lmx.machines.types import Adapter, ModelSpec


def test_the_host_names_version_system_and_chip() -> None:
    """In one line, the same at every call."""
    assert host().startswith(f"lmx {__version__} ")
    assert len(host().split()) >= 4
    assert "\n" not in host()
    assert host() == host()


def test_a_changed_file_setting_or_library_ends_a_quarantine(tmp_path: Path) -> None:
    """Each of them makes another key; nothing else does."""
    folder = tmp_path / "model"
    folder.mkdir()
    weights = folder / "model.safetensors"
    weights.write_bytes(b"x")
    os.utime(weights, (1000, 1000))
    spec = ModelSpec(name="m", path=str(folder), backend="mlx")
    keys = [quarantine_key(spec), quarantine_key(replace(spec, kv_type="q8_0"))]
    keys.append(quarantine_key(replace(spec, adapters=(Adapter(str(tmp_path / "lora")),))))
    keys.append(quarantine_key(replace(spec, adapters=(Adapter(str(tmp_path / "lora"), 0.5),))))
    keys.append(quarantine_key(replace(spec, backend="llama_cpp")))
    keys.append(quarantine_key(replace(spec, speculation="off")))
    projector = tmp_path / "mmproj.gguf"
    for content in (b"bad", b"good"):
        projector.write_bytes(content)
        keys.append(quarantine_key(replace(spec, mmproj=str(projector))))
    weights.write_bytes(b"xx")
    keys.append(quarantine_key(spec))
    (folder / "config.json").write_bytes(b"{}")
    keys.append(quarantine_key(spec))
    assert len(set(keys)) == len(keys)
    assert quarantine_key(spec) == quarantine_key(replace(spec, name="n", pinned=True)) == keys[-1]


def test_it_can_be_asked_of_a_model_that_is_not_there(tmp_path: Path) -> None:
    """Which has a key of its own."""
    spec = ModelSpec(name="m", path=str(tmp_path / "gone.gguf"), backend="llama_cpp")
    gone = quarantine_key(spec)
    (tmp_path / "gone.gguf").write_bytes(b"GGUF")
    assert quarantine_key(spec) != gone


def test_every_backend_has_its_libraries() -> None:
    """Those that pip knows, with or without being installed."""
    for libraries in identity.LIBRARIES.values():
        for name in libraries:
            assert quarantine_key(ModelSpec(name="m", path="", backend="mlx")), name
