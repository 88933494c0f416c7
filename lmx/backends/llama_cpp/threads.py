"""How many threads compute a step: all of them, or one while other programs hold the cores.

llama.cpp's threads wait for each other hundreds of times a step, and they wait spinning. When another program holds one
of their cores, a step takes a hundred times as long as it should; one thread alone is never more than `threads` times
slower. docs/decisions/0005 has the figures.
"""

TOLERANCE = 1.5
SHORTEST_PAUSE, LONGEST_PAUSE = 5.0, 60.0
"""Seconds with one thread before all are tried again."""


class ThreadGovernor:
    """Decides from how long decode steps take. Times are seconds of one monotonic clock."""

    def __init__(self, threads: int) -> None:
        self._all = threads
        self.threads = threads
        """For the next step."""
        self._alone = 0.0
        """What one row costs with one thread; 0 = not known."""
        self._slow = 0
        self._slow_step = 0.0
        self._pause = SHORTEST_PAUSE
        self._until = 0.0

    def calibrate(self, alone: float) -> None:
        """`alone` seconds is what a step of one row takes with one thread."""
        self._alone = alone

    def stepped(self, rows: int, seconds: float, now: float) -> None:
        """A step of `rows` rows and no prompt took `seconds` with `threads` threads."""
        if self._all == 1 or not self._alone:
            return
        if self.threads == 1:
            self._stepped_alone(rows, seconds, now)
        elif seconds <= TOLERANCE * rows * self._alone:
            self._slow, self._pause = 0, SHORTEST_PAUSE
        else:
            self._slow += 1
            if self._slow > 1 or self._pause > SHORTEST_PAUSE:
                self._go_alone(seconds, now)

    def _go_alone(self, seconds: float, now: float) -> None:
        self.threads, self._slow, self._slow_step = 1, 0, seconds
        self._until = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _stepped_alone(self, rows: int, seconds: float, now: float) -> None:
        """Stay alone while it pays; if it does not, the model is slower than it was, and not the machine busier."""
        if self._slow_step and seconds >= self._slow_step:
            self._alone, self.threads, self._pause = seconds / rows, self._all, SHORTEST_PAUSE
        elif now >= self._until:
            self.threads = self._all
        self._slow_step = 0.0
