"""Weights into memory, piece by piece, and what the loaded model can do."""

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from lmx.backends.base import LoadAborted, LoadError
from lmx.backends.mlx.folder import Folder
from lmx.backends.mlx.imports import Module, load_model, make_prompt_cache, mx, tree_flatten
from lmx.backends.mlx.single_row import single_row

GROUP_BYTES = 256 * 2**20
"""Weights are read in groups of about this size: progress and aborting are as fine as that."""

REASON_LENGTH = 300
"""mlx-lm lists every tensor that is missing; the first few tell enough."""


@dataclass(frozen=True)
class Model:
    """A model whose weights are all in memory; `width` is that of its logits."""

    module: Module
    weights_bytes: int
    width: int
    batches: bool
    """Its caches can be merged; if not, one sequence runs at a time."""

    def new_cache(self) -> list[Any]:
        """The caches of one new sequence, one per layer."""
        caches: list[Any] = make_prompt_cache(self.module)
        return caches if self.batches else [single_row(cache) for cache in caches]


def load_weights(folder: Folder, progress: Callable[[float], bool]) -> Model:
    """Read everything, in this thread. Raises LoadError or LoadAborted."""
    _report(progress, 0.0)
    module = _build(folder)
    if mx.default_device() == mx.cpu:
        _suit_cpu(module)
    try:
        weights_bytes = _read(module, progress)
    except RuntimeError as error:
        raise LoadError(f"{folder.path}: the weights cannot be read ({error}); download the model again") from error
    return _probe(folder, module, weights_bytes)


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


def _probe(folder: Folder, module: Module, weights_bytes: int) -> Model:
    """Feed one token to two caches: shapes come without computing, and whether caches merge is only known by trying."""
    pair = [make_prompt_cache(module) for _ in range(2)]
    try:
        logits, _ = (module(mx.array([[0]]), cache=caches) for caches in pair)
    except (ValueError, RuntimeError, TypeError, AttributeError, IndexError) as error:
        raise LoadError(f"{folder.path} does not generate text with mlx-lm: {error}; choose another model") from error
    return Model(module, weights_bytes, logits.shape[-1], all(map(_mergeable, *pair)))


def _mergeable(first: Any, second: Any) -> bool:
    """CacheList has `merge` even where the caches in it have none, so a look at the attribute is not enough."""
    try:
        merged = first.merge([first, second])
        merged.filter([0])
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return False
    return True
