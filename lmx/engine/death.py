"""Why a worker process ended: one word for metrics, one sentence for people."""

import re
import signal
from pathlib import Path
from typing import Literal, NamedTuple

Cause = Literal["exit", "killed", "signal", "oom", "gpu", "protocol", "wedge", "unstarted"]

OOM = re.compile(
    r"out of memory|OutOfMemory|insufficient memory|MemoryError|bad_alloc|cudaErrorMemoryAllocation"
    r"|(failed|unable|cannot|attempting) to (re)?allocate|(alloc\w*|malloc)\b.{0,40}\bfailed",
    re.IGNORECASE,
)
GPU = re.compile(r"command ?buffer|\bMTL|\[METAL\]|\bmetal\b|IOGPU|\bCUDA|cudaError|cuBLAS|\bGPU\b", re.IGNORECASE)
UNSTARTED = 75
"""Exit code (EX_TEMPFAIL) of a worker that could not start one of its threads."""
VMSTAT = Path("/proc/vmstat")


class Death(NamedTuple):
    cause: Cause
    detail: str


def of_message(message: str) -> Death:
    """Of a worker that ended itself and said why: memory that a GPU lacks is memory."""
    cause: Cause = "oom" if OOM.search(message) else "gpu" if GPU.search(message) else "exit"
    return Death(cause, f"The engine broke: {message}")


def describe(returncode: int, *, ours: bool = False, oom_kills: int = 0, greeted: bool = True) -> Death:
    """Of one that said nothing (`subprocess`'s convention: a negative code is a signal).

    `ours`: we have killed it; `oom_kills`: processes that the kernel has killed for memory since it spoke last;
    `greeted`: it has said its first word, which is before it hears of its model.
    """
    if returncode == UNSTARTED:
        return Death("unstarted", "The worker could not start its threads: the limit of processes is reached.")
    if not greeted and not ours and returncode != -signal.SIGKILL:
        return Death("unstarted", f"The worker could not be started: it {_ended(returncode)}")
    if returncode >= 0:
        return Death("exit", f"The worker {_ended(returncode)}")
    if returncode != -signal.SIGKILL:
        return Death("signal", f"The worker {_ended(returncode)}")
    if ours:
        return Death("killed", "lmx has killed the worker (SIGKILL).")
    if oom_kills > 0:
        text = "The worker was killed (SIGKILL), probably by the operating system, which was out of memory."
        return Death("oom", text)
    return Death("killed", "The worker was killed (SIGKILL).")


def _ended(returncode: int) -> str:
    return f"exited with code {returncode}." if returncode >= 0 else f"died of {_name(-returncode)}."


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
