"""The worker process: one model; threads for the engine, which alone touches the backend, intake, reading and beats.

Started as `python -m lmx.engine.worker FD`. It ends when it is told to, when its model cannot be loaded, and at once
when the main process is gone (end of file on its socket, another parent, or as the kernel says).
"""

import ctypes
import faulthandler
import os
import queue
import signal
import socket
import sys
import threading
from typing import NoReturn, assert_never

from lmx.backends.base import EngineFatal, LoadAborted, LoadError
from lmx.backends.registry import open_backend
from lmx.engine.assembly import assemble
from lmx.engine.beat import Heart, Work
from lmx.engine.death import UNSTARTED
from lmx.engine.digest import digest
from lmx.engine.intake import Intake
from lmx.engine.jobs import JobIntake
from lmx.engine.rendering import rendered
from lmx.engine.service import Inbox, Service
from lmx.engine.template import TemplateError
from lmx.engine.wire import Channel
from lmx.machines import frames
from lmx.machines.speech import Speech
from lmx.machines.types import ModelInfo, RefusalKind

LOAD_FAILED = 65
"""Exit code (EX_DATAERR) after a LoadFailed frame."""
BROKEN = 70
"""Exit code (EX_SOFTWARE) after a Broken frame."""
PR_SET_PDEATHSIG = 1


class WorkerMain:
    def __init__(self, channel: Channel[frames.Command, frames.Report]) -> None:
        self._channel = channel
        self._inbox: Inbox = queue.SimpleQueue()
        self._prompts: queue.SimpleQueue[frames.Insert | frames.Embed | frames.Render] = queue.SimpleQueue()
        self._work = Work()
        self._unwanted = False

    def run(self) -> NoReturn:
        """The engine thread's whole life."""
        _start(threading.Thread(target=self._read, name="reader", daemon=True))
        self._channel.send(frames.Hello(frames.PROTOCOL, os.getpid()))
        _start(Heart(self._channel, self._work))
        self._load().run()

    def _load(self) -> Service:
        """Wait for the Load frame and do it; exits the process when it cannot be done."""
        command = self._inbox.get()
        if not isinstance(command, frames.Load):
            sys.exit(0)
        spec = command.spec
        try:
            backend = open_backend(spec.backend)
            info = backend.load(spec, self._progress)
            intake, jobs = Intake(backend, info, spec.chat_template), JobIntake(backend, info)
            files = digest(spec)
        except (LoadError, TemplateError) as error:
            self._channel.send(frames.LoadFailed(str(error)))
            sys.exit(LOAD_FAILED)
        except MemoryError as error:
            self._channel.send(frames.LoadFailed(_out_of_memory(error), RefusalKind.INSUFFICIENT_MEMORY))
            sys.exit(LOAD_FAILED)
        except LoadAborted:
            sys.exit(0)
        service = Service(self._channel, self._inbox, backend, assemble(backend, intake.info, spec), self._work)
        _start(threading.Thread(target=self._prepare, args=(intake, jobs), name="intake", daemon=True))
        self._channel.send(frames.Loaded(_told(intake, files)))
        return service

    def _progress(self, fraction: float) -> bool:
        """Report it; False once a Shutdown is waiting."""
        self._channel.send(frames.LoadProgress(fraction))
        return not self._unwanted

    def _read(self) -> None:
        """The reader thread: cancels overtake prompts that are still being tokenised."""
        while (command := self._channel.receive()) is not None:
            match command:
                case frames.Insert() | frames.Embed() | frames.Render():
                    self._prompts.put(command)
                case frames.Shutdown():
                    self._unwanted = True
                    self._inbox.put(command)
                case frames.Load() | frames.WarmUp() | frames.Cancel() | frames.Probe() | frames.TrimCaches():
                    self._inbox.put(command)
                case _:
                    assert_never(command)
        os._exit(0)  # the main process is gone: nobody is left to answer to, whatever native code is doing

    def _prepare(self, intake: Intake, jobs: JobIntake) -> None:
        """The intake thread."""
        while True:
            match self._prompts.get():
                case frames.Insert() as insert:
                    self._inbox.put(intake.prepare(insert))
                case frames.Embed() as embed:
                    self._inbox.put(jobs.prepare(embed))
                case frames.Render() as render:
                    self._inbox.put(rendered(intake, render))


def _start(one: threading.Thread | Heart) -> None:
    """Start a thread of this process; without it there is no worker, for no fault of its model's."""
    try:
        one.start()
    except RuntimeError as error:
        sys.stderr.write(f"lmx worker: {error}\n")
        sys.exit(UNSTARTED)


def _out_of_memory(error: MemoryError) -> str:
    return f"out of memory: {error}" if str(error) else "out of memory"


def _told(intake: Intake, files: str) -> ModelInfo:
    info, dialect = intake.info, intake.dialect
    return ModelInfo(
        backend_version=info.version,
        context=info.context,
        slots=info.slots,
        vocab=info.vocab,
        weights_bytes=info.weights_bytes,
        chat_template=dialect is not None,
        generates=info.generates,
        embedding=info.embedding,
        scores=bool(info.pair),
        prefix=info.prefix,
        speculation=info.speculation,
        speech=dialect.speech if dialect is not None else Speech(),
        sees=info.look is not None,
        digest=files,
    )


def _end_with_the_thread(failed: threading.ExceptHookArgs) -> None:
    """A worker without its reader or its intake is deaf: better dead, and restarted."""
    sys.__excepthook__(failed.exc_type, failed.exc_value or failed.exc_type(), failed.exc_traceback)
    os._exit(BROKEN)


def _die_with_the_parent() -> None:
    """SIGKILL when the thread that started this process ends, on Linux: whatever native code is doing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> NoReturn:
    _die_with_the_parent()
    if sys.stderr is not None:
        faulthandler.enable()  # where native code crashed
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
    except MemoryError as error:
        channel.send(frames.Broken(_out_of_memory(error)))
        sys.exit(BROKEN)


if __name__ == "__main__":
    main()
