"""Where requests stood whose clients stopped waiting: sent again, they go on from there and not from the end."""

from lmx.machines.suspects import fingerprint
from lmx.machines.tasks import Task

KEPT_SECONDS = 60.0
"""As long as a Retry-After may be."""
REMEMBERED = 256


class Places:
    """By client, model and request. `now` is in seconds of any one clock."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, str, str], tuple[int, float]] = {}
        """Place, and when it was left; the latest come last."""

    def __len__(self) -> int:
        return len(self._places)

    def leave(self, client: str, model: str, asked: Task, place: int, now: float) -> None:
        """Keep a place; of several for the same request the first one."""
        key = (client, model, fingerprint(asked))
        kept, _ = self._places.pop(key, (place, now))
        self._places[key] = (min(place, kept), now)
        while len(self._places) > REMEMBERED:
            del self._places[next(iter(self._places))]

    def take(self, client: str, model: str, asked: Task, now: float) -> int:
        """The place that was kept, once; 0 = none."""
        if not self._places:
            return 0
        place, left = self._places.pop((client, model, fingerprint(asked)), (0, now))
        return place if now - left < KEPT_SECONDS else 0
