"""The worker process: one model, an engine thread that alone touches the backend, an intake thread, a reader thread.

Started as `python -m lmx.engine.worker FD`. It ends when it is told to, when its model cannot be loaded, and at once
when the main process is gone (end of file on its socket).
"""

import os
import queue
import signal
import socket
import sys
import threading
from typing import NoReturn, assert_never

from lmx.backends.base import Backend, EngineFatal, LoadAborted, LoadError
from lmx.backends.registry import open_backend
from lmx.engine.intake import Intake, Ready
from lmx.engine.loop import Engine
from lmx.engine.template import TemplateError
from lmx.engine.wire import Channel
from lmx.machines import frames
from lmx.machines.types import ModelInfo

LOAD_FAILED = 65
"""Exit code (EX_DATAERR) after a LoadFailed frame."""
BROKEN = 70
"""Exit code (EX_SOFTWARE) after a Broken frame."""

Inbox = queue.SimpleQueue[frames.Load | frames.WarmUp | frames.Cancel | frames.Shutdown | Ready | frames.Rejected]


class WorkerMain:
    def __init__(self, channel: Channel[frames.Command, frames.Report]) -> None:
        self._channel = channel
        self._inbox: Inbox = queue.SimpleQueue()
        self._inserts: queue.SimpleQueue[frames.Insert] = queue.SimpleQueue()
        self._seen = 0
        """The highest sequence id that came out of the intake; ids arrive in order."""
        self._cancelled_early: set[int] = set()

    def run(self) -> NoReturn:
        """The engine thread's whole life."""
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        self._channel.send(frames.Hello(frames.PROTOCOL, os.getpid()))
        backend, engine = self._load()
        while True:
            self._obey_all(backend, engine)
            step = engine.step()
            if step.seqs:
                self._channel.send(step)
            if engine.idle:
                self._channel.send(frames.Idled(backend.stats().kv_used))

    def _obey_all(self, backend: Backend, engine: Engine) -> None:
        """Take in what has come; wait for something while there is nothing to compute."""
        while engine.idle or not self._inbox.empty():
            busy = not engine.idle
            self._obey(self._inbox.get(), backend, engine)
            if busy and engine.idle:
                self._channel.send(frames.Idled(backend.stats().kv_used))

    def _load(self) -> tuple[Backend, Engine]:
        """Wait for the Load frame and do it; exits the process when it cannot be done."""
        command = self._inbox.get()
        if not isinstance(command, frames.Load):
            sys.exit(0)
        spec = command.spec
        try:
            backend = open_backend(spec.backend)
            info = backend.load(spec, self._progress)
            intake = Intake(backend, info)
        except (LoadError, TemplateError) as error:
            self._channel.send(frames.LoadFailed(str(error)))
            sys.exit(LOAD_FAILED)
        except LoadAborted:
            sys.exit(0)
        threading.Thread(target=self._prepare, args=(intake,), name="intake", daemon=True).start()
        self._channel.send(
            frames.Loaded(
                ModelInfo(
                    backend_version=info.version,
                    context=info.context,
                    slots=info.slots,
                    vocab=info.vocab,
                    weights_bytes=info.weights_bytes,
                    chat_template=info.chat_template is not None,
                )
            )
        )
        return backend, Engine(backend, info, spec.prefill_chunk)

    def _progress(self, fraction: float) -> bool:
        """Report it; False once a Shutdown is waiting, which is all that can wait during a load."""
        self._channel.send(frames.LoadProgress(fraction))
        return self._inbox.empty()

    def _obey(self, command: object, backend: Backend, engine: Engine) -> None:
        match command:
            case Ready(seq):
                if self._arrived(seq):
                    self._channel.send(frames.Accepted(seq, len(command.prompt)))
                    engine.insert(command)
            case frames.Rejected(seq):
                if self._arrived(seq):
                    self._channel.send(command)
            case frames.Cancel(seq):
                if seq > self._seen:
                    self._cancelled_early.add(seq)
                else:
                    engine.cancel(seq)
            case frames.WarmUp():
                self._warm_up(backend)
            case frames.Shutdown():
                backend.close()
                sys.exit(0)
            case _:
                raise TypeError(f"unexpected command {command!r}")

    def _arrived(self, seq: int) -> bool:
        """Note that a sequence came out of the intake; False when it was cancelled on its way."""
        self._seen = max(self._seen, seq)
        early = seq in self._cancelled_early
        self._cancelled_early.discard(seq)
        return not early

    def _warm_up(self, backend: Backend) -> None:
        try:
            backend.warm_up()
        except EngineFatal:
            raise
        except RuntimeError as error:
            self._channel.send(frames.Warmed(str(error)))
        else:
            self._channel.send(frames.Warmed())

    def _read(self) -> None:
        """The reader thread: cancels overtake prompts that are still being tokenised."""
        while (command := self._channel.receive()) is not None:
            match command:
                case frames.Insert():
                    self._inserts.put(command)
                case frames.Load() | frames.WarmUp() | frames.Cancel() | frames.Shutdown():
                    self._inbox.put(command)
                case _:
                    assert_never(command)
        os._exit(0)  # the main process is gone: nobody is left to answer to, whatever native code is doing

    def _prepare(self, intake: Intake) -> None:
        """The intake thread."""
        while True:
            self._inbox.put(intake.prepare(self._inserts.get()))


def _end_with_the_thread(failed: threading.ExceptHookArgs) -> None:
    """A worker without its reader or its intake is deaf: better dead, and restarted."""
    sys.__excepthook__(failed.exc_type, failed.exc_value or failed.exc_type(), failed.exc_traceback)
    os._exit(BROKEN)


def main() -> NoReturn:
    for number in (signal.SIGINT, signal.SIGTERM):  # a service manager signals the whole group; the parent decides
        signal.signal(number, signal.SIG_IGN)
    threading.excepthook = _end_with_the_thread
    sock = socket.socket(fileno=int(sys.argv[1]))
    channel: Channel[frames.Command, frames.Report] = Channel(sock, frames.Command)
    try:
        WorkerMain(channel).run()
    except EngineFatal as error:
        channel.send(frames.Broken(str(error)))
        sys.exit(BROKEN)


if __name__ == "__main__":
    main()
