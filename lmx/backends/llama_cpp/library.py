"""The bound library `lib`, told to be quiet: its log goes into `errors`, and only errors reach stderr."""

import os
import sys
from collections import deque

os.environ.setdefault("GGML_NO_BACKTRACE", "1")  # read while the library loads; without it an abort starts a debugger

from llama_cpp import llama_cpp as lib

__all__ = ["errors", "lib"]

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


errors = ErrorLog()
_callback = lib.llama_log_callback(errors.receive)  # the library keeps the bare pointer: hold the object
lib.llama_log_set(_callback, None)
lib.llama_backend_init()
