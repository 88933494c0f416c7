"""The real things behind the actors' ports: clock, memory, worker processes."""

import time
from pathlib import Path

import psutil

from lmx.actors.messages import model
from lmx.actors.messages.ref import Ref
from lmx.engine.process import WorkerProcess
from lmx.machines.types import ModelSpec

OVERHEAD = 200_000_000
"""Bytes of a worker process without its model: interpreter, library, buffers."""
GROWTH = 1.25
"""What weights become in memory: copies, KV cache, scratch space."""


class SystemClock:
    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()


class SystemMemory:
    def free(self) -> int:
        return int(psutil.virtual_memory().available)

    def total(self) -> int:
        return int(psutil.virtual_memory().total)


class ProcessLauncher:
    def launch(self, number: int, owner: Ref[model.Message]) -> WorkerProcess:
        return WorkerProcess(
            lambda report: owner.tell(model.Reported(number, report)),
            lambda cause, detail: owner.tell(model.WorkerExited(number, cause, detail)),
        )


def need_bytes(spec: ModelSpec) -> int:
    """An estimate of what loading the model takes, by the size of its files."""
    path = Path(spec.path)
    files = [path] if path.is_file() else list(path.glob("*.safetensors"))
    return int(sum(file.stat().st_size for file in files) * GROWTH) + OVERHEAD
