"""How often a worker may be restarted, and after which delay (Erlang's restart intensity, Akka's backoff)."""

from collections import deque
from dataclasses import dataclass, field

DELAYS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds before restart 1, 2, 3 …; the last one stays."""


@dataclass
class RestartBudget:
    """`limit` restarts within `window` seconds, or `patience` in a row without health, spend the budget.

    All times are seconds of one monotonic clock, given by the caller.
    """

    limit: int = 5
    window: float = 30.0
    patience: int = 10
    jitter: float = 0.2
    """At most this share is added to a delay."""
    reset_after: float = 120.0
    """Seconds of health after which earlier restarts are forgotten."""
    _recent: deque[float] = field(default_factory=deque)
    _in_a_row: int = 0

    def spent(self, now: float) -> bool:
        while self._recent and now - self._recent[0] > self.window:
            self._recent.popleft()
        return len(self._recent) >= self.limit or self._in_a_row >= self.patience

    def take(self, now: float, chance: float) -> float:
        """Count one restart and return its delay; `chance` in [0, 1) spreads restarts of many workers."""
        base = DELAYS[min(self._in_a_row, len(DELAYS) - 1)]
        self._recent.append(now)
        self._in_a_row += 1
        return base * (1 + self.jitter * chance)

    def was_healthy(self, seconds: float) -> None:
        """The worker served for `seconds` before this death."""
        if seconds >= self.reset_after:
            self.forget()

    def forget(self) -> None:
        self._recent.clear()
        self._in_a_row = 0
