"""One connection for each request, so that a client can leave as rudely as real ones do."""

import http.client
import json
import socket
import struct
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

SECONDS = 60.0
"""Of silence, after which a server counts as dead."""
NONE: Mapping[str, str] = MappingProxyType({})


class Wrong(Exception):
    """The server did not do what it should; a sentence."""


class Client:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (str(parts.hostname), int(parts.port or 0))

    def ask(
        self, path: str, body: object = None, headers: Mapping[str, str] = NONE, method: str = ""
    ) -> tuple[int, Any]:
        """Status and body; `body` is sent as JSON, or as it is when it is bytes."""
        with self._sent(path, body, headers, method) as answer:
            return answer.status, parsed(answer.read())

    def events(self, path: str, body: object, headers: Mapping[str, str] = NONE) -> Generator[str, None, None]:
        """The data of each server-sent event; whoever closes the iterator closes the connection. Raises Wrong."""
        with self._sent(path, body, headers) as answer:
            if answer.status != 200:
                raise Wrong(f"{answer.status} {parsed(answer.read())}")
            while line := answer.readline():
                if line.startswith(b"data: "):
                    yield line[6:].decode().rstrip("\n")

    def crash(self, head: bytes, read: int) -> None:
        """Send these bytes, read so many of the answer, and vanish with a reset, as a killed process does."""
        with socket.create_connection(self._address, SECONDS) as connection:
            connection.sendall(head)
            while read > 0 and (heard := connection.recv(min(read, 4096))):
                read -= len(heard)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    @contextmanager
    def _sent(
        self, path: str, body: object, headers: Mapping[str, str] = NONE, method: str = ""
    ) -> Iterator[http.client.HTTPResponse]:
        with closing(http.client.HTTPConnection(*self._address, timeout=SECONDS)) as connection:
            content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            kind = {"Content-Type": "application/json"} if content is not None else {}
            connection.request(method or ("GET" if content is None else "POST"), path, content, {**kind, **headers})
            with connection.getresponse() as answer:
                yield answer


def parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
