"""Why a worker process ended: one word for metrics, one sentence for people."""

import re
import signal
from pathlib import Path
from typing import Literal, NamedTuple

Cause = Literal["exit", "killed", "signal", "oom", "gpu", "protocol", "wedge"]

OOM = re.compile(
    r"out of memory|OutOfMemory|insufficient memory|MemoryError|bad_alloc|cudaErrorMemoryAllocation"
    r"|(failed|unable|cannot|attempting) to (re)?allocate|(alloc\w*|malloc)\b.{0,40}\bfailed",
    re.IGNORECASE,
)
GPU = re.compile(r"command ?buffer|\bMTL|\[METAL\]|\bmetal\b|IOGPU|\bCUDA|cudaError|cuBLAS|\bGPU\b", re.IGNORECASE)
VMSTAT = Path("/proc/vmstat")


class Death(NamedTuple):
    cause: Cause
    detail: str


def of_message(message: str) -> Death:
    """Of a worker that ended itself and said why: memory that a GPU lacks is memory."""
    cause: Cause = "oom" if OOM.search(message) else "gpu" if GPU.search(message) else "exit"
    return Death(cause, f"The engine broke: {message}")


def describe(returncode: int, *, ours: bool = False, oom_kills: int = 0) -> Death:
    """Of one that said nothing (`subprocess`'s convention: a negative code is a signal).

    `ours`: we have killed it; `oom_kills`: processes that the kernel has killed for memory since it spoke last.
    """
    if returncode >= 0:
        return Death("exit", f"The worker exited with code {returncode}.")
    if returncode != -signal.SIGKILL:
        return Death("signal", f"The worker died of {_name(-returncode)}.")
    if ours:
        return Death("killed", "lmx has killed the worker (SIGKILL).")
    if oom_kills > 0:
        text = "The worker was killed (SIGKILL), probably by the operating system, which was out of memory."
        return Death("oom", text)
    return Death("killed", "The worker was killed (SIGKILL).")


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def oom_kills() -> int:
    """Processes that the kernel has killed for memory since it started; 0 where it does not tell."""
    try:
        found = re.search(r"^oom_kill (\d+)$", VMSTAT.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0
