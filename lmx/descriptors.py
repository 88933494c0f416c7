"""Open files: enough of them, none of the first three closed, and a few kept back for when there are no more."""

import errno
import os
import resource
import threading
from collections.abc import Callable
from typing import TypeVar

R = TypeVar("R")

WANTED = 8192
MOST_CONNECTIONS = 1024
RESERVED = 8
"""What starting a worker takes, or writing the state, and some."""
EXHAUSTED = (errno.EMFILE, errno.ENFILE)


def raise_limit(wanted: int = WANTED) -> int:
    """Let this process open as many files as it may, up to `wanted`; returns how many. launchd starts it with 256."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    best = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft != resource.RLIM_INFINITY and soft < best:
        resource.setrlimit(resource.RLIMIT_NOFILE, (best, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def connections() -> int:
    """How many clients may be connected: the rest is for workers, files, and those who are turned away."""
    return min(MOST_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)


def fill_standard() -> None:
    """Open /dev/null in place of stdin, stdout and stderr where they are closed, lest a socket gets their number."""
    while True:
        fd = os.open(os.devnull, os.O_RDWR)
        if fd > 2:
            os.close(fd)
            return
        os.set_inheritable(fd, True)


class Reserve:
    """Descriptors that are given up for what must work when all others are taken. For any thread."""

    def __init__(self, size: int = RESERVED) -> None:
        self._size = size
        self._held: list[int] = []
        self._lock = threading.Lock()
        self._fill()

    def use(self, make: Callable[[], R]) -> R:
        """Do this; when no descriptor is left for it, once more with those of the reserve. Raises OSError."""
        try:
            return make()
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
        with self._lock:
            self._empty()
            try:
                return make()
            finally:
                self._fill()

    def _empty(self) -> None:
        while self._held:
            os.close(self._held.pop())

    def _fill(self) -> None:
        """As far as that can be; the next use does it again."""
        try:
            while len(self._held) < self._size:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
