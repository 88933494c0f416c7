"""A worker of lmx by itself, asked through its pipe: what its answers take without a server before it."""

import threading
from collections.abc import Mapping, Sequence
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Self

from lmx.bench.wire import BenchError
from lmx.engine.process import WorkerProcess
from lmx.machines import frames
from lmx.machines.types import Chat, Generation, ModelSpec

SECONDS = 60.0
PAUSE = 0.003
"""Between two requests, so that the worker waits for each as it does behind a server."""


class BareWorker:
    """`with BareWorker(spec) as worker`. Everything raises BenchError."""

    def __init__(self, spec: ModelSpec) -> None:
        self._loaded, self._spoke = threading.Event(), threading.Event()
        self._process = WorkerProcess(self._hear, lambda *_: None)
        self._seq = 0
        self._process.send(frames.Load(spec))
        self._wait(self._loaded)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()

    def first_token(self, messages: Sequence[Mapping[str, Any]], tokens: int) -> float:
        """Seconds from the request to the frame with its first token."""
        sleep(PAUSE)
        self._seq += 1
        self._spoke.clear()
        began = monotonic()
        chat = Chat(tuple(dict(message) for message in messages))
        self._process.send(frames.Insert(self._seq, Generation(prompt=chat, max_tokens=tokens)))
        self._wait(self._spoke)
        return monotonic() - began

    def _hear(self, report: frames.Report) -> None:
        match report:
            case frames.Loaded():
                self._loaded.set()
            case frames.Step(_, seqs) if any(did.seq == self._seq and did.n_tokens for did in seqs):
                self._spoke.set()

    def _wait(self, event: threading.Event) -> None:
        if not event.wait(SECONDS):
            self._process.kill()
            raise BenchError(f"the worker did not answer within {SECONDS:g} s")
