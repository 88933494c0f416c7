"""Weights into memory, piece by piece."""

import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from lmx.backends.base import LoadAborted, LoadError
from lmx.backends.mlx.adapters import add_adapters
from lmx.backends.mlx.folder import Folder
from lmx.backends.mlx.imports import Module, load_model, mx, tree_flatten
from lmx.backends.mlx.model import Model, probed
from lmx.machines.types import ModelSpec

GROUP_BYTES = 256 * 2**20
"""Weights are read in groups of about this size: progress and aborting are as fine as that."""

REASON_LENGTH = 300
"""mlx-lm lists every tensor that is missing; the first few tell enough."""


def load_weights(folder: Folder, spec: ModelSpec, progress: Callable[[float], bool]) -> Model:
    """Read everything, in this thread. Raises LoadError or LoadAborted."""
    _report(progress, 0.0)
    module = _build(folder)
    add_adapters(module, spec.adapters)
    if mx.default_device() == mx.cpu:
        _suit_cpu(module)
    try:
        weights_bytes = _read(module, progress)
    except RuntimeError as error:
        raise LoadError(f"{folder.path}: the weights cannot be read ({error}); download the model again") from error
    return probed(folder, module, weights_bytes, spec)


def _build(folder: Folder) -> Module:
    """The model with weights that are not read yet; mlx-lm reports a model it cannot build in many ways."""
    kind = folder.config.get("model_type")
    try:
        module: Module = load_model(folder.path, lazy=True)[0]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", REASON_LENGTH)
        message = f"{folder.path} (model_type {kind}) cannot be loaded: {reason}; check that mlx-lm supports this model"
        raise LoadError(message) from error
    return module


def _suit_cpu(module: Module) -> None:
    """On a CPU half precision is emulated: 4-bit weights with 16-bit scales ran 25 times slower than with 32-bit ones.

    And mx.compile starts a C++ compiler, 1.6 s for each new kernel, without making steps faster.
    """
    module.set_dtype(mx.float32)
    mx.disable_compile()


def _read(module: Module, progress: Callable[[float], bool]) -> int:
    """Read the weights group by group; returns their size in memory."""
    leaves: Any = tree_flatten(module.parameters())  # type: ignore[no-untyped-call]
    arrays: list[mx.array] = [array for _, array in leaves]
    total = sum(array.nbytes for array in arrays)
    done = 0
    for group in _groups(arrays):
        mx.eval(group)
        done += sum(array.nbytes for array in group)
        _report(progress, done / total)
    return total


def _groups(arrays: list[mx.array]) -> Iterator[list[mx.array]]:
    group: list[mx.array] = []
    size = 0
    for array in arrays:
        group.append(array)
        size += array.nbytes
        if size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _report(progress: Callable[[float], bool], fraction: float) -> None:
    if not progress(fraction):
        raise LoadAborted
