"""The parent's side of a worker: start it, write to it, read from it, notice its end at once."""

import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Literal

from lmx.engine.wire import Channel, ProtocolError
from lmx.machines import frames

Cause = Literal["exit", "killed", "signal", "protocol"]
Reported = Callable[[frames.Report], None]
Exited = Callable[[Cause, str], None]


EXIT_SECONDS = 5.0
"""From the end of a worker's frames to the end of its process; after that it is killed."""


class WorkerProcess:
    """One process. `reported` and `exited` are called from its reader thread; `exited` once, as the last thing."""

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
        self._reported = reported
        self._exited = exited
        self._channel: Channel[frames.Report, frames.Command] = Channel(ours, frames.Report)
        self._outbox: queue.SimpleQueue[frames.Command | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name=f"worker-{self.pid}-writer", daemon=True)
        self._reader = threading.Thread(target=self._read, name=f"worker-{self.pid}-reader", daemon=True)
        self._writer.start()
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, command: frames.Command) -> None:
        self._outbox.put(command)

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()

    def _write(self) -> None:
        while (command := self._outbox.get()) is not None:
            try:
                self._channel.send(command)
            except OSError:
                return

    def _read(self) -> None:
        cause, detail = self._listen()
        hung = not self._exits()
        returncode = self._process.wait()
        self._outbox.put(None)
        self._writer.join()
        self._channel.close()
        if cause is None and hung:
            cause, detail = "killed", "The worker closed its end but did not exit, and was killed."
        elif cause is None:
            cause, detail = describe(returncode)
        self._exited(cause, detail)

    def _exits(self) -> bool:
        """Whether it does by itself, now that it has closed its end; if not, it is killed."""
        try:
            self._process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return True

    def _listen(self) -> tuple[Cause | None, str]:
        """Until the worker closes its end, or speaks what is no frame."""
        try:
            while (report := self._channel.receive()) is not None:
                if isinstance(report, frames.Hello) and report.protocol != frames.PROTOCOL:
                    raise ProtocolError(f"it speaks version {report.protocol}, expected {frames.PROTOCOL}")
                if isinstance(report, frames.Broken):
                    self.kill()  # its state is unknown: it need not be able to exit by itself
                    return "exit", f"The engine broke: {report.message}"
                self._reported(report)
        except ProtocolError as error:
            self.kill()
            return "protocol", f"The worker broke the protocol: {error}."
        return None, ""


def describe(returncode: int) -> tuple[Cause, str]:
    """One word and one sentence for how a process ended (`subprocess`'s convention: negative = signal)."""
    if returncode >= 0:
        return "exit", f"The worker exited with code {returncode}."
    if returncode == -signal.SIGKILL:
        return "killed", "The worker was killed (SIGKILL)."
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    return "signal", f"The worker died of {name}."
