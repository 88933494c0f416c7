"""How many sequences a model is given at once: all its slots, and as many more as do not wait long inside of it."""

from msgspec import Struct

SPARE = 2
"""Sequences beyond the slots that are always there, so that a slot that becomes free is filled at once."""
FIRST, MOST = 2, 4
"""Times the slots: the limit at the start, and the highest."""
TOLERANCE = 2.0
"""A first token may take so many times what it takes without waiting before the limit goes down."""
HEADROOM = 2.0
SMOOTHING = 0.5
WINDOW_SECONDS = 0.5
OVERHEAD_TOKENS = 64
"""What a sequence costs besides its prompt, in prompt tokens."""
BASE_SMOOTHING = 0.1


class Window(Struct, frozen=True):
    """What was measured lately, in seconds until the first token for each token of the prompt."""

    base: float
    """Of sequences that had a slot at once; 0 = there were none so far."""
    waited: float
    """Of those that did not, in this window; 0 = there were none."""
    wanted: bool
    """More sequences waited for the model than the limit let in."""


def follow(limit: float, slots: int, window: Window) -> float:
    """The next limit: down when sequences wait inside the engine, up while they do not and more are wanted.

    A limit that nobody needs returns to the first one.
    """
    least, first, most = float(slots + SPARE), float(max(FIRST * slots, slots + SPARE)), float(MOST * slots)
    if not window.waited or not window.base:
        return max(limit, min(limit + 1, first))
    gradient = min(1.0, max(0.5, TOLERANCE * window.base / window.waited))
    aim = (1 - SMOOTHING) * limit + SMOOTHING * (limit * gradient + HEADROOM)
    if aim > limit and limit >= first and not window.wanted:
        return limit
    return max(least, min(aim, max(most, least)))


class Concurrency:
    """The limit of one model, from when it opens until it closes. `now` is in seconds of any one clock."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.exact = float(max(FIRST * slots, slots + SPARE))
        """The limit, with the fractions that it moves by."""
        self.pressed = False
        """Memory is short: half the slots must do."""
        self._base = 0.0
        self._waited = 0.0
        self._samples = 0
        self._wanted = False
        self._since: float | None = None

    @property
    def limit(self) -> int:
        return max(1, self.slots // 2) if self.pressed else int(self.exact)

    def want(self) -> None:
        """One more waits than the limit lets in."""
        self._wanted = True

    def began(self, seconds: float, tokens: int, *, waited: bool, now: float) -> Window | None:
        """A sequence has its first token `seconds` after it was given to the model, with `tokens` of prompt to read.

        `waited`: more than `slots` were there before it. Returns what `follow` has to know when a window is over.
        """
        each = seconds / (tokens + OVERHEAD_TOKENS)
        if waited:
            self._waited += each
            self._samples += 1
        else:
            self._base += (each - self._base) * (BASE_SMOOTHING if self._base else 1.0)
        if self._since is None:
            self._since = now
        if now - self._since < WINDOW_SECONDS:
            return None
        window = Window(self._base, self._waited / max(1, self._samples), self._wanted)
        self._since, self._waited, self._samples, self._wanted = now, 0.0, 0, False
        return window
