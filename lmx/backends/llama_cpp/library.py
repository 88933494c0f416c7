"""The bound library `lib`, told to be quiet: its log goes into `errors` and `sizes`, and only errors reach stderr."""

import os
import re
import sys
from collections import deque

os.environ.setdefault("GGML_NO_BACKTRACE", "1")  # read while the library loads; without it an abort starts a debugger

from llama_cpp import llama_cpp as lib

__all__ = ["errors", "lib", "sizes"]

LOG_ERROR = 4
LOG_CONTINUED = 5


class ErrorLog:
    """The last error lines of llama.cpp, which reports most failures by a log line and a null pointer."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=16)
        self._in_error = False

    def receive(self, level: int, text: bytes, _data: object) -> None:
        if level != LOG_CONTINUED:
            self._in_error = level == LOG_ERROR
        if self._in_error:
            line = text.decode("utf-8", "replace")
            self._lines.append(line.strip())
            sys.stderr.write(line)

    def clear(self) -> None:
        self._lines.clear()

    def reason(self) -> str:
        """What the collected lines say, without the names of C functions in front."""
        said = [line.partition(": ")[2] or line for line in self._lines if line]
        return "; ".join(dict.fromkeys(said)) or "llama.cpp gives no reason"


class SizeLog:
    """How large KV caches and recurrent states are: llama.cpp says so in its log and nowhere else."""

    PATTERN = re.compile(rb"(?:KV|RS) buffer size = +([0-9.]+) MiB")

    def __init__(self) -> None:
        self._sizes: list[int] = []

    def receive(self, text: bytes) -> None:
        if found := self.PATTERN.search(text):
            self._sizes.append(int(float(found[1]) * 2**20))

    def clear(self) -> None:
        self._sizes.clear()

    def total(self) -> int:
        return sum(self._sizes)


errors = ErrorLog()
sizes = SizeLog()


def _receive(level: int, text: bytes, data: object) -> None:
    errors.receive(level, text, data)
    sizes.receive(text)


_callback = lib.llama_log_callback(_receive)  # the library keeps the bare pointer: hold the object
lib.llama_log_set(_callback, None)
lib.llama_backend_init()
