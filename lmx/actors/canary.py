"""One canary in one worker: what is asked, what is heard, and the verdict."""

from collections.abc import Callable

from lmx.machines import canary, frames
from lmx.machines.canary import Record
from lmx.machines.types import ModelInfo


class CanaryRun:
    """Runs under negative sequence ids, through the same engine path as every request."""

    def __init__(
        self,
        record: Record | None,
        info: ModelInfo,
        send: Callable[[frames.Insert | frames.Embed], None],
        done: Callable[[str], None],
    ) -> None:
        """`send` hands frames to the worker; `done(error)` is called once, with an empty error when it passed."""
        self._record = record
        self._info = info
        self._send = send
        self._done = done
        self._answers: list[tuple[int, ...]] = []
        self._heard: tuple[int, ...] = ()

    def sing(self) -> None:
        """Start the next run."""
        self._heard = ()
        if self._info.generates:
            asked = canary.generation(self._record, chat=self._info.chat_template)
            self._send(frames.Insert(-1 - len(self._answers), asked))
        else:
            self._send(frames.Embed(-1, canary.embedding(self._info)))

    def hear(self, report: frames.Step | frames.Accepted | frames.Rejected | frames.Embedded) -> None:
        """What the worker says of anything; the canary's own ids are below 0."""
        match report:
            case frames.Step(_, seqs):
                for did in seqs:
                    if did.seq < 0:
                        self._stepped(did)
            case frames.Rejected(seq, refusal) if seq < 0:
                self._done(refusal.message)
            case frames.Embedded(job, vectors) if job < 0:
                self._done(report.error or canary.judge_numbers(vectors))
            case _:
                pass

    def _stepped(self, did: frames.SeqStep) -> None:
        """At the end of a run, sing again or judge."""
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
