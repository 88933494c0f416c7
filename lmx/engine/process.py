"""The parent's side of a worker: start it, write to it, read from it, notice its end at once."""

import errno
import math
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Literal

import psutil

from lmx.engine.death import Cause, Death, describe, of_message, oom_kills
from lmx.engine.wire import MAX_FRAME, Channel, CutOffError, ProtocolError, TooLargeError
from lmx.machines import frames
from lmx.machines.types import Refusal, RefusalKind

Reported = Callable[[frames.Report], None]
Exited = Callable[[Cause, str], None]
Condition = Literal["running", "stopped", "gone"]


EXIT_SECONDS = 5.0
"""From the end of a worker's frames to the end of its process; after that it is killed."""


class WorkerProcess:
    """One process. `reported` and `exited` are called from its threads; `exited` once, as the last thing."""

    def __init__(self, reported: Reported, exited: Exited) -> None:
        """Start the process. Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "lmx.engine.worker", str(theirs.fileno())],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    process_group=0,  # a Ctrl-C in the terminal is for the main process alone
                )
            except OSError:
                ours.close()
                raise
        self._reaping = threading.Lock()
        """A process that is reaped is signalled no more: its id may be another one's."""
        self._ours = self._greeted = False
        self._oom_kills = oom_kills()
        self._reported = reported
        self._exited = exited
        self._channel: Channel[frames.Report, frames.Command] = Channel(ours, frames.Report)
        self._outbox: queue.SimpleQueue[frames.Command | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name=f"worker-{self.pid}-writer", daemon=True)
        self._reader = threading.Thread(target=self._read, name=f"worker-{self.pid}-reader", daemon=True)
        self._begin()

    def _begin(self) -> None:
        """Start both threads; a process that nobody could listen to is ended. Raises OSError."""
        try:
            self._writer.start()
            self._reader.start()
        except RuntimeError as error:  # the limit of threads: to the caller the same as that of processes
            self._outbox.put(None)
            self._process.kill()
            self._process.wait()
            self._channel.close()
            raise OSError(errno.EAGAIN, str(error)) from error

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, command: frames.Command) -> None:
        self._outbox.put(command)

    def kill(self) -> None:
        """SIGKILL; and listen no longer, whoever else may have inherited its end."""
        with self._reaping:
            if self._process.poll() is None:
                self._ours = True
                self._process.kill()
        self._channel.hang_up()

    def condition(self) -> Condition:
        """As the operating system sees the process."""
        with self._reaping:
            if self._process.poll() is not None:
                return "gone"
            try:
                status = psutil.Process(self.pid).status()
            except (psutil.Error, OSError):  # it has ended just now, or no descriptor is left to look with
                return "running"
        return "stopped" if status == psutil.STATUS_STOPPED else "running"

    def _write(self) -> None:
        while (command := self._outbox.get()) is not None:
            try:
                self._channel.send(command)
            except TooLargeError as error:
                self._reported(_rejected(command, error))
            except OSError:
                return

    def _read(self) -> None:
        said = self._listen()
        code = self._reaped(EXIT_SECONDS)
        hung = code is None and not self._ours
        if code is None:
            self.kill()
            code = self._reaped(math.inf)
        self._outbox.put(None)
        self._writer.join()
        self._channel.close()
        self._exited(*self._death(said, code, hung=hung))

    def _death(self, said: Death | None, code: int | None, *, hung: bool) -> Death:
        """What it said, or did wrong, explains more than how it ended."""
        if said is not None:
            return said
        if hung:
            return Death("killed", "The worker closed its end but did not exit, and was killed.")
        killed = oom_kills() - self._oom_kills
        return describe(code or 0, ours=self._ours, oom_kills=killed, greeted=self._greeted)

    def _reaped(self, seconds: float) -> int | None:
        """The exit code; None when the process does not end within `seconds`."""
        deadline, pause = time.monotonic() + seconds, 0.001
        while (code := self._poll()) is None and time.monotonic() < deadline:
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        return code

    def _poll(self) -> int | None:
        with self._reaping:
            return self._process.poll()

    def _greet(self, hello: frames.Hello) -> None:
        """Raises ProtocolError."""
        self._greeted = True
        if hello.protocol != frames.PROTOCOL:
            raise ProtocolError(f"it speaks version {hello.protocol}, expected {frames.PROTOCOL}")

    def _listen(self) -> Death | None:
        """Until the worker closes its end, or speaks what is no frame."""
        try:
            while (report := self._channel.receive()) is not None:
                if isinstance(report, frames.Hello):
                    self._greet(report)
                if isinstance(report, frames.Broken):
                    self.kill()  # its state is unknown: it need not be able to exit by itself
                    return of_message(report.message)
                if isinstance(report, frames.Beat):
                    self._oom_kills = oom_kills()
                self._reported(report)
        except CutOffError as error:
            died_there = self._ours or self._reaped(EXIT_SECONDS)
            return None if died_there else _broke_protocol(error)
        except ProtocolError as error:
            self.kill()
            return _broke_protocol(error)
        return None


def _rejected(command: frames.Command, error: TooLargeError) -> frames.Rejected:
    """What a worker would say that could read it: only what clients ask for may be so large."""
    text = f"The request is too large: it takes {error} on its way to the model, and {MAX_FRAME} may be."
    refusal = Refusal(RefusalKind.INVALID_PROMPT, text)
    match command:
        case frames.Insert(asked) | frames.Embed(asked) | frames.Render(asked):
            return frames.Rejected(asked, refusal)
    raise error


def _broke_protocol(error: ProtocolError) -> Death:
    return Death("protocol", f"The worker broke the protocol: {error}.")
