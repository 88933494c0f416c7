"""HTTP as a server writes it: which request each byte answers, and where an answer ends."""

from collections import deque
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    """Without its query."""


@dataclass(frozen=True)
class Head:
    status: int
    headers: Mapping[str, str]
    """Names in small letters."""

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip()


class Body(Protocol):
    """Who reads one answer."""

    def feed(self, data: bytes) -> None: ...
    def end(self, whole: bool) -> None:
        """`whole`: the answer says itself that this is all of it."""


NOBODY = Asked("UNKNOWN", "/")
"""Who could not even be parsed, or was never let in."""
Reader = Generator[None, None, bytes]


class Answers:
    """Everything that is written on one connection. ValueError: it is not HTTP."""

    def __init__(self, answered: Callable[[Asked, Head], Body]) -> None:
        self._answered = answered
        self._asked: deque[Asked] = deque()
        self._buffer = bytearray()
        self._over = False
        self._run = self._read()
        next(self._run)

    def asked(self, method: str, path: str) -> None:
        self._asked.append(Asked(method, path.partition("?")[0]))

    def feed(self, data: bytes) -> None:
        self._buffer += data
        self._run.send(None)

    def closed(self) -> None:
        """Half an answer is nobody's fault: the connection was broken on purpose, or the client is gone."""
        self._over = True
        self._run.send(None)

    def _read(self) -> Generator[None, None, None]:
        while True:
            head = _head((yield from self._until(b"\r\n\r\n")))
            if head.status >= 200:
                asked = self._asked.popleft() if self._asked else NOBODY
                yield from self._read_body(asked, head)

    def _read_body(self, asked: Asked, head: Head) -> Generator[None, None, None]:
        body = self._answered(asked, head)
        if asked.method == "HEAD" or head.status in (204, 304):
            body.end(True)
        elif head.headers.get("transfer-encoding") == "chunked":
            yield from self._read_chunks(body)
        elif (length := head.headers.get("content-length")) is not None:
            body.feed((yield from self._exactly(int(length))))
            body.end(True)
        else:
            while not self._over:
                body.feed(self._taken(len(self._buffer)))
                yield
            body.end(False)
            yield

    def _read_chunks(self, body: Body) -> Generator[None, None, None]:
        while size := int((yield from self._until(b"\r\n")), 16):
            body.feed((yield from self._exactly(size)))
            if (yield from self._exactly(2)) != b"\r\n":
                raise ValueError("a chunk that does not end where it says")
        yield from self._until(b"\r\n")
        body.end(True)

    def _until(self, mark: bytes) -> Reader:
        while (at := self._buffer.find(mark)) < 0:
            yield
        return self._taken(at + len(mark))[:at]

    def _exactly(self, size: int) -> Reader:
        while len(self._buffer) < size:
            yield
        return self._taken(size)

    def _taken(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data


def _head(text: bytes) -> Head:
    first, *lines = text.decode("latin-1").split("\r\n")
    version, status, _ = first.split(" ", 2)
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise ValueError(f"answered with {version[:20]}")
    fields = (line.partition(":") for line in lines)
    return Head(int(status), {name.lower(): value.strip() for name, _, value in fields})
