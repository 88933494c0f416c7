"""LoRA adapters: a folder as mlx-lm writes it, put into a model."""

import textwrap
from pathlib import Path
from typing import Any

from lmx.backends.base import LoadError
from lmx.backends.mlx.imports import Module, load_adapters
from lmx.machines.types import Adapter

REASON_LENGTH = 300


def add_adapters(module: Module, adapters: tuple[Adapter, ...]) -> None:
    """Raises LoadError for what is no adapter of this model, and for what mlx-lm cannot do."""
    if not adapters:
        return
    if len(adapters) > 1:
        raise LoadError(f"MLX models take one adapter, not {len(adapters)}; fuse them with mlx_lm.fuse")
    (adapter,) = adapters
    _load(module, Path(adapter.path))
    module.eval()
    if adapter.scale != 1:
        _rescale(module, adapter)


def _load(module: Module, folder: Path) -> None:
    for name in ("adapter_config.json", "adapters.safetensors"):
        if not (folder / name).is_file():
            raise LoadError(f"{folder} has no {name}; give the folder of an adapter that mlx_lm.lora wrote")
    try:
        load_adapters(module, str(folder))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", REASON_LENGTH)
        raise LoadError(f"{folder} cannot be used with this model: {reason}; check what it was trained for") from error


def _rescale(module: Module, adapter: Adapter) -> None:
    """A LoRA layer adds `scale` times its product; other kinds of adapters have no such factor."""
    modules: list[Any] = module.modules()  # type: ignore[no-untyped-call]
    layers = [layer for layer in modules if "lora_a" in layer]
    if not layers or any("m" in layer for layer in layers):
        raise LoadError(f"{adapter.path} is no LoRA adapter, so it has no scale; leave `scale` out")
    for layer in layers:
        layer.scale = layer.scale * adapter.scale
