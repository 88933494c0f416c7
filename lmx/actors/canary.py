"""One canary in one worker: what is asked, what is heard, and the verdict."""

from collections.abc import Callable

from lmx.machines import canary, frames
from lmx.machines.canary import Record


class CanaryRun:
    """Runs under negative sequence ids, through the same engine path as every request."""

    def __init__(
        self, record: Record | None, chat: bool, send: Callable[[frames.Insert], None], done: Callable[[str], None]
    ) -> None:
        """`send` hands frames to the worker; `done(error)` is called once, with an empty error when it passed."""
        self._record = record
        self._chat = chat
        self._send = send
        self._done = done
        self._answers: list[tuple[int, ...]] = []
        self._heard: tuple[int, ...] = ()

    def sing(self) -> None:
        """Start the next run."""
        self._heard = ()
        self._send(frames.Insert(-1 - len(self._answers), canary.generation(self._record, chat=self._chat)))

    def heard(self, did: frames.SeqStep) -> None:
        """Take note of a step; at the end of a run, sing again or judge."""
        self._heard += did.token_ids
        if did.finish is None:
            return
        if did.finish.reason == "error":
            self._done(did.finish.error)
            return
        self._answers.append(self._heard)
        if len(self._answers) < canary.runs(self._record):
            self.sing()
        else:
            self._done(canary.judge(self._record, self._answers))
