"""One canary in one worker: what is asked, what is heard, and the verdict."""

from collections.abc import Callable

from lmx.machines import canary, frames
from lmx.machines.canary import Record


class CanaryRun:
    """Runs under negative sequence ids, through the same engine path as every request."""

    def __init__(self, record: Record | None, chat: bool, done: Callable[[str], None]) -> None:
        """`done(error)` is called once, with an empty error when the canary passed."""
        self._record = record
        self._chat = chat
        self._done = done
        self._answers: list[tuple[int, ...]] = []
        self._heard: tuple[int, ...] = ()

    def insert(self) -> frames.Insert:
        """The frame that starts the next run."""
        self._heard = ()
        return frames.Insert(-1 - len(self._answers), canary.generation(self._record, chat=self._chat))

    def heard(self, did: frames.SeqStep) -> frames.Insert | None:
        """Take note of a step; the frame to send next, if the canary has to sing again."""
        self._heard += did.token_ids
        if did.finish is None:
            return None
        if did.finish.reason == "error":
            self._done(did.finish.error)
            return None
        self._answers.append(self._heard)
        if len(self._answers) < canary.runs(self._record):
            return self.insert()
        self._done(canary.judge(self._record, self._answers))
        return None
