"""Puts an engine together for a loaded model: budgets and targets that the settings leave open are chosen here."""

import time
from pathlib import Path

import psutil

from lmx.backends.base import Backend, Info
from lmx.engine.chunks import ChunkController
from lmx.engine.disk import DiskTier
from lmx.engine.known import KnownPrompts
from lmx.engine.loop import Engine
from lmx.machines.types import ModelSpec

TARGETS = {"cpu": 250, "gpu": 100}
"""Milliseconds between two tokens that a prompt beside them may cause."""
CACHE_SHARE = 0.1
"""Part of the machine's memory that one model's known prompts may take."""


def assemble(backend: Backend, info: Info, spec: ModelSpec) -> Engine:
    """An engine for a model that `backend` has loaded."""
    target = (spec.target_itl_ms or TARGETS[info.device]) / 1000
    chunks = ChunkController(target, max(spec.batch_itl_ms / 1000, target), spec.prefill_chunk)
    budget = spec.cache_bytes or int(psutil.virtual_memory().total * CACHE_SHARE)
    return Engine(backend, info, KnownPrompts(backend, info, budget, _disk(info, spec)), chunks, time.perf_counter)


def _disk(info: Info, spec: ModelSpec) -> DiskTier | None:
    if not (spec.cache_dir and spec.disk_cache_bytes and info.kv_key) or info.prefix == "none":
        return None
    return DiskTier(Path(spec.cache_dir), info.kv_key, spec.disk_cache_bytes, None, time.time)
