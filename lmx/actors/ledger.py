"""Who holds how much of the memory that lmx may use: the loader's book."""

from collections.abc import Iterable

from msgspec.structs import replace

from lmx.actors.ports import Clock, MemoryGauge
from lmx.machines import memory
from lmx.machines.memory import Line

RETURN_SECONDS = 2.0
"""What a process had may take so long to show as free after its end."""


class Ledger:
    """Survives its actor's crash: what is granted is in use, whoever remembers it."""

    def __init__(self, gauge: MemoryGauge, share: float, clock: Clock) -> None:
        self._gauge = gauge
        self._share = share
        self._clock = clock
        self.lines: dict[str, Line] = {}
        """The longest unused first."""
        self._pinned: set[str] = set()
        self._busy: set[str] = set()
        self._loaded: set[str] = set()
        self._estimates: dict[str, int] = {}
        self._learnt: dict[str, float] = {}
        self._returning: list[tuple[float, int]] = []

    @property
    def held(self) -> dict[str, int]:
        return {name: line.held for name, line in self.lines.items()}

    @property
    def budget(self) -> int:
        return int(self._gauge.total() * self._share)

    def free(self) -> int:
        """What the machine could give, less what is promised to the models that are loaded."""
        return self._gauge.free() - sum(line.promised for line in self.lines.values())

    def returning(self) -> int:
        """Bytes of workers that have just exited, which may not count as free yet."""
        now = self._clock.monotonic()
        self._returning = [(until, size) for until, size in self._returning if until > now]
        return sum(size for _, size in self._returning)

    def others(self) -> int:
        """What processes that are not ours take."""
        ours = sum(line.now for line in self.lines.values())
        return max(0, self._gauge.total() - self._gauge.free() - ours)

    def need(self, name: str, estimated: int) -> int:
        """The estimate, as the model's last load taught."""
        return int(estimated * self._learnt.get(name, 1.0))

    def may_go(self, stay: Iterable[str]) -> list[str]:
        """Loaded models that are idle, not pinned and not among those that `stay`, the longest unused first."""
        stays = self._busy | self._pinned | set(stay)
        return [name for name in self.lines if name in self._loaded and name not in stays]

    def grant(self, name: str, estimated: int, *, pinned: bool) -> None:
        self.lines[name] = Line(reserved=self.need(name, estimated))
        self._estimates[name] = estimated
        (self._pinned.add if pinned else self._pinned.discard)(name)

    def loaded(self, name: str) -> None:
        self._loaded.add(name)
        self.touch(name)

    def measured(self, name: str, nbytes: int, *, trimmed: bool = False) -> None:
        """The process of a loaded model takes so much now; `trimmed`: what it took before is over."""
        line = self.lines.get(name)
        if line is not None:
            self.lines[name] = replace(line, now=nbytes, peak=nbytes if trimmed else max(line.peak, nbytes))
            learnt = memory.correction(measured=self.lines[name].peak, estimated=self._estimates[name])
            self._learnt[name] = learnt

    def busy(self, name: str) -> None:
        self._busy.add(name)

    def idle(self, name: str) -> None:
        self._busy.discard(name)
        self.touch(name)

    def touch(self, name: str) -> None:
        """It is the one that was used last."""
        if name in self.lines:
            self.lines[name] = self.lines.pop(name)

    def withdraw(self, name: str) -> None:
        """What was granted was never taken."""
        self.lines.pop(name, None)

    def release(self, name: str) -> None:
        """The worker is gone."""
        self._busy.discard(name)
        self._loaded.discard(name)
        line = self.lines.pop(name, None)
        if line is not None:
            self._returning.append((self._clock.monotonic() + RETURN_SECONDS, line.now or line.held))

    def shown(self) -> dict[str, Line]:
        """The lines with what their models do."""
        return {name: self._shown(name, line) for name, line in self.lines.items()}

    def _shown(self, name: str, line: Line) -> Line:
        if name not in self._loaded:
            return replace(line, use="loading")
        use: memory.Use = "busy" if name in self._busy else "pinned" if name in self._pinned else "idle"
        return replace(line, use=use)
