"""mlx-lm without its start-up costs and side effects; the other modules here take its names from this one.

mlx-lm imports transformers and huggingface_hub for tokenizers and downloads. lmx reads `tokenizer.json` itself and
never downloads while loading, so two stand-ins that hold only the names asked for take their place during the import:
0.6 s instead of 3.4 s on a small machine. Afterwards they are gone, and `import transformers` gives the real one.
"""

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


class _Unavailable:
    """What mlx-lm derives from or registers with at import, and what lmx never uses."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("lmx imports mlx-lm without transformers and huggingface_hub")

    @classmethod
    def register(cls, *args: Any, **kwargs: Any) -> None:
        """AutoTokenizer.register: nobody will ask for it."""


STAND_INS = {
    "transformers": ("AutoTokenizer", "PreTrainedTokenizer", "PreTrainedTokenizerFast"),
    "transformers.tokenization_utils_base": ("PreTrainedTokenizerBase",),
    "huggingface_hub": ("snapshot_download",),
}


@contextmanager
def _light_imports() -> Iterator[None]:
    """Stand-ins for what is not imported yet, and no say of mlx-lm in this process's limit of open files."""
    missing = [name for name in STAND_INS if name not in sys.modules]
    set_limit = resource.setrlimit
    for name in missing:
        sys.modules[name] = _stand_in(name)
    resource.setrlimit = lambda *_: None  # mlx_lm.utils lowers soft and hard limit for good
    try:
        yield
    finally:
        resource.setrlimit = set_limit
        for name in missing:
            del sys.modules[name]


def _stand_in(name: str) -> ModuleType:
    module = ModuleType(name)
    for attribute in STAND_INS[name]:
        setattr(module, attribute, _Unavailable)
    return module


with _light_imports():
    import mlx.core as mx
    from mlx.nn.layers.base import Module
    from mlx.utils import tree_flatten, tree_map
    from mlx_lm.generate import BatchGenerator, StopSequences
    from mlx_lm.models.cache import (
        ArraysCache,
        CacheList,
        ChunkedKVCache,
        KVCache,
        QuantizedKVCache,
        RotatingKVCache,
        TokenBuffer,
        make_prompt_cache,
        trim_prompt_cache,
    )
    from mlx_lm.sample_utils import greedy_sampler
    from mlx_lm.utils import load_model

__all__ = [
    "ArraysCache",
    "BatchGenerator",
    "CacheList",
    "ChunkedKVCache",
    "KVCache",
    "Module",
    "QuantizedKVCache",
    "RotatingKVCache",
    "StopSequences",
    "TokenBuffer",
    "greedy_sampler",
    "load_adapters",
    "load_model",
    "make_prompt_cache",
    "mx",
    "tree_flatten",
    "tree_map",
    "trim_prompt_cache",
]


def load_adapters(module: Module, folder: str) -> None:
    """mlx-lm's own, imported when it is needed: few models have adapters. Raises what mlx-lm raises."""
    with _light_imports():
        from mlx_lm.tuner.utils import load_adapters as load
    load(module, folder)
