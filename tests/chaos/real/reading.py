"""A client that reads one streamed chat to its end."""

import threading
import time
from typing import Any

from tests.chaos.real.stage import Stage


class Reading(threading.Thread):
    """Starts at once; `events` are those before `[DONE]`, each with its time on the monotonic clock."""

    def __init__(self, stage: Stage, model: str, text: str, **fields: Any) -> None:
        super().__init__(daemon=True)
        self.events: list[tuple[float, dict[str, Any]]] = []
        self.done = False
        self._asked = (stage, model, text, fields)
        self._changed = threading.Condition()
        self.start()

    def run(self) -> None:
        stage, model, text, fields = self._asked
        for event in stage.streams(model, text, **fields):
            assert not self.done
            with self._changed:
                if isinstance(event, str):
                    self.done = True
                else:
                    self.events.append((time.monotonic(), event))
                self._changed.notify_all()

    @property
    def deltas(self) -> list[tuple[float, str]]:
        """What was written, and when."""
        chunks = [(at, choice["delta"]) for at, event in list(self.events) for choice in event.get("choices", ())]
        return [(at, delta["content"]) for at, delta in chunks if delta.get("content")]

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.deltas)

    @property
    def finishes(self) -> list[str]:
        choices = [choice for _, event in list(self.events) for choice in event.get("choices", ())]
        return [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]

    @property
    def errors(self) -> list[dict[str, Any]]:
        return [event["error"] for _, event in list(self.events) if "error" in event]

    def reaches(self, characters: int) -> None:
        """Wait for so much text."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.text) >= characters, 30), self.events

    def end(self, seconds: float = 40.0) -> "Reading":
        """Wait until the stream is over; it must say so."""
        self.join(seconds)
        assert not self.is_alive(), self.events[-3:]
        assert self.done, self.events[-3:]
        return self

    def whole(self, text: str) -> None:
        """It ended well, once, and this is what it said."""
        self.end()
        assert self.errors == []
        assert self.text == text
        assert len(self.finishes) == 1

    def pause_after(self, at: float) -> float:
        """Seconds from `at` to the next text."""
        return next(when for when, _ in self.deltas if when > at) - at
