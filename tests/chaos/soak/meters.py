"""What may not grow, and what may not stand in the log."""

import json
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from statistics import median

import psutil

MIB = 2**20
RSS_MIB, FDS, THREADS = 100.0, 2, 0
"""By how much the main process may differ from what it was after the warm-up."""


@dataclass(frozen=True)
class Reading:
    rss_mib: float
    fds: int
    threads: int


def read(pid: int) -> Reading:
    """The middle one of seven, half a second apart: something ends at every moment."""
    process, seen = psutil.Process(pid), []
    for _ in range(7):
        time.sleep(0.5)
        seen.append((process.memory_info().rss / MIB, process.num_fds(), process.num_threads()))
    rss, fds, threads = (median(column) for column in zip(*seen, strict=True))
    return Reading(round(rss, 1), int(fds), int(threads))


def breaches(before: Reading, after: Reading) -> list[str]:
    grown = round(after.rss_mib - before.rss_mib, 1)
    found = {
        f"RSS grew by {grown} MiB": grown > RSS_MIB,
        f"fds went from {before.fds} to {after.fds}": abs(after.fds - before.fds) > FDS,
        f"threads went from {before.threads} to {after.threads}": abs(after.threads - before.threads) > THREADS,
    }
    return [text for text, bad in found.items() if bad]


class Log(list[str]):
    """Of a server; it keeps only what nobody has explained, for there are many lines in seven hours."""

    def append(self, line: str) -> None:
        if not explained(line):
            super().append(line)

    def gists(self) -> dict[str, int]:
        """What they say, and how often."""
        return dict(Counter(gist(line) for line in self if not explained(line)).most_common(20))


def gist(line: str) -> str:
    """Without what differs from one to the next."""
    try:
        told = json.loads(line)
    except ValueError:
        return line.rstrip()[:500]
    last = str(told.get("exception", told.get("reason", ""))).rstrip().rpartition("\n")[2]
    return f"{told.get('level')} {told.get('event')} {told.get('actor', '')} {last}"[:500]


def explained(line: str) -> bool:
    """Below a warning, or the first death of a worker that was to be killed."""
    try:
        told = json.loads(line)
    except ValueError:
        return False
    deaths = told.get("event") == "worker_died_first" and str(told.get("model")).startswith("mortal")
    return bool(told.get("level") in ("debug", "info") or deaths)


@dataclass
class Tally:
    """Of one kind of client."""

    done: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    """The first few."""

    def fail(self, why: str) -> None:
        self.failed += 1
        if len(self.failures) < 5:
            self.failures.append(f"{time.strftime('%H:%M:%S')} {why}")

    def as_dict(self) -> dict[str, object]:
        return asdict(self)
