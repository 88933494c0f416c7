"""How often a worker may be restarted, and after which delay (Erlang's restart intensity, Akka's backoff)."""

from msgspec import Struct, field

DELAYS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds before restart 1, 2, 3 …; the last one stays."""
JITTER = 0.2
"""At most this share is added to a delay."""


def pause(earlier: int, chance: float) -> float:
    """Seconds before the next start, after so many `earlier` ones; `chance` in [0, 1) spreads those of many workers."""
    return DELAYS[min(earlier, len(DELAYS) - 1)] * (1 + JITTER * chance)


class RestartBudget(Struct, omit_defaults=True):
    """`limit` restarts within `window` seconds, or `patience` in a row without health, spend the budget.

    All times are seconds of one monotonic clock, given by the caller.
    """

    limit: int = 5
    window: float = 30.0
    patience: int = 10
    reset_after: float = 120.0
    """Seconds of health after which earlier restarts are forgotten."""
    recent: list[float] = field(default_factory=list)
    """When the latest restarts were."""
    in_a_row: int = 0

    def spent(self, now: float, healthy: float = 0.0) -> bool:
        """Whether a worker that dies after so many `healthy` seconds is not to be started again."""
        if healthy >= self.reset_after:
            return False
        while self.recent and now - self.recent[0] > self.window:
            self.recent.pop(0)
        return len(self.recent) >= self.limit or self.in_a_row >= self.patience

    def take(self, now: float, chance: float) -> float:
        """Count one restart and return its delay."""
        delay = pause(self.in_a_row, chance)
        self.recent.append(now)
        self.in_a_row += 1
        return delay

    def was_healthy(self, seconds: float) -> None:
        """The worker served for `seconds` before this death."""
        if seconds >= self.reset_after:
            self.forget()

    def forget(self) -> None:
        self.recent.clear()
        self.in_a_row = 0
