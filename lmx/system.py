"""The real things behind the actors' ports: clock, memory, worker processes."""

import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from lmx.actors.messages import model
from lmx.actors.messages.ref import Ref
from lmx.descriptors import Reserve
from lmx.engine.process import WorkerProcess

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


class SystemClock:
    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()


class SystemMemory:
    """The machine's memory, or what the nearest control group (v2) leaves of it."""

    def __init__(self, root: Path = CGROUPS, own: Path = OWN_CGROUP) -> None:
        self._groups = _limited(root, own)
        self._known = psutil.virtual_memory()

    def free(self) -> int:
        """What is cached of files counts as free: it can be read again."""
        free = int(self._machine().available)
        return max(0, min([free, *(_room(group) for group in self._groups)]))

    def total(self) -> int:
        limits = (_number(group / "memory.max") for group in self._groups)
        return min([int(self._known.total), *(limit for limit in limits if limit)])

    def _machine(self) -> Any:
        """As it is now; as it was last, when no descriptor is left to look with."""
        with suppress(OSError):
            self._known = psutil.virtual_memory()
        return self._known


def _limited(root: Path, own: Path) -> list[Path]:
    """This process's control group and those above it, as far as they limit memory; none where there are none."""
    try:
        lines = own.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
    name = next((line[3:] for line in lines if line.startswith("0::")), "")
    group = root / name.strip().lstrip("/")
    return [one for one in (group, *group.parents) if one.is_relative_to(root) and _number(one / "memory.max")]


def _room(group: Path) -> int:
    """Bytes that a control group may still take; without end when its limit is gone."""
    limit, stat = _number(group / "memory.max"), _lines(group / "memory.stat")
    cached = next((int(line.split()[1]) for line in stat if line.startswith("inactive_file ")), 0)
    return limit - _number(group / "memory.current") + cached if limit else sys.maxsize


def _number(file: Path) -> int:
    """0 for none, and for `max`."""
    text = "".join(_lines(file)).strip()
    return int(text) if text.isdigit() else 0


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii").splitlines()
    except OSError:
        return []


class ProcessLauncher:
    def __init__(self, reserve: Reserve | None = None) -> None:
        """`reserve` holds descriptors that a worker is started with when all others are taken."""
        self._reserve = reserve or Reserve(0)

    def launch(self, number: int, owner: Ref[model.Message]) -> WorkerProcess:
        return self._reserve.use(
            lambda: WorkerProcess(
                lambda report: owner.tell(model.Reported(number, report)),
                lambda cause, detail: owner.tell(model.WorkerExited(number, cause, detail)),
            )
        )


def port_owner(port: int) -> str:
    """Who listens there, in words for people; only with some luck by name."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.Error:
        connections = []
    pids = (c.pid for c in connections if c.status == psutil.CONN_LISTEN and c.laddr.port == port and c.pid)
    pid = next(pids, None)
    return f"another program (pid {pid})" if pid is not None else "another program"
