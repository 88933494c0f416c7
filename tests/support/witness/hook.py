"""Sees every byte that lmx writes to a client, and keeps what is wrong: in memory, or in a file of the server's."""

import asyncio
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import msgspec

from lmx.http.protocol import Protocol
from tests.support.witness.rules import Judge
from tests.support.witness.wire import Answers, Asked, Body, Head

VARIABLE = "WITNESS_FILE"
"""Of the environment: where a server's process writes its violations, a JSON string per line."""
Report = Callable[[str], None]


class Witness:
    """What is wrong with the answers of one process."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._watched: dict[Protocol, Answers] = {}

    def install(self) -> None:
        """Look at every connection that is made from now on."""
        made, lost = Protocol.connection_made, Protocol.connection_lost

        def connection_made(protocol: Protocol, transport: asyncio.BaseTransport) -> None:
            answers = self._watched[protocol] = Answers(self._judge)
            self._listen(answers, transport)
            made(protocol, transport)
            if (make := protocol._request_factory) is not None:
                protocol._request_factory = _telling(answers, make)

        def connection_lost(protocol: Protocol, exc: BaseException | None) -> None:
            lost(protocol, exc)
            if (answers := self._watched.pop(protocol, None)) is not None:
                self._see(answers, None)

        # assigned by name: mypy takes a method's first parameter for one that has to be passed
        setattr(Protocol, made.__name__, connection_made)
        setattr(Protocol, lost.__name__, connection_lost)

    def _listen(self, answers: Answers, transport: Any) -> None:
        write = transport.write

        def written(data: Any) -> None:
            self._see(answers, bytes(data))  # first: once the client has it, the process may be killed
            write(data)

        transport.write = written
        transport.writelines = lambda parts: written(b"".join(parts))

    def _see(self, answers: Answers, data: bytes | None) -> None:
        with suppress(StopIteration):  # it was given up already
            try:
                answers.closed() if data is None else answers.feed(data)
            except (ValueError, msgspec.DecodeError, AttributeError, KeyError, TypeError) as error:
                self._report(f"it cannot be read: {error!r}, {data!r:.300}")

    def _judge(self, asked: Asked, head: Head) -> Body:
        return Judge(
            asked, head, lambda fault: self._report(f"{asked.method} {asked.path[:200]} {head.status}: {fault}")
        )


def _telling(answers: Answers, make: Callable[..., Any]) -> Callable[..., Any]:
    def told(message: Any, *rest: Any) -> Any:
        answers.asked(message.method, message.path)
        return make(message, *rest)

    return told


def install_in_server() -> None:
    """In a process that `Server` started. The file is open from the start: descriptors may run out later."""
    if VARIABLE in os.environ:
        file = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        Witness(lambda fault: cast("None", os.write(file, json.dumps(fault).encode() + b"\n"))).install()


SEEN: list[str] = []
"""Violations of servers in this process."""


def install_here() -> None:
    Witness(SEEN.append).install()


class Files:
    """Of the servers that this process started."""

    def __init__(self) -> None:
        self._read: dict[Path, int] = {}

    def add(self, file: Path) -> None:
        self._read.setdefault(file, 0)

    def taken(self) -> list[str]:
        """What is new in any of them."""
        return [fault for file in self._read for fault in self._news(file)]

    def _news(self, file: Path) -> list[str]:
        try:
            with file.open("rb") as stream:
                stream.seek(self._read[file])
                lines = stream.readlines()
        except FileNotFoundError:
            return []
        whole = [line for line in lines if line.endswith(b"\n")]
        self._read[file] += sum(map(len, whole))
        return [json.loads(line) for line in whole]


FILES = Files()


def taken() -> list[str]:
    """What is new anywhere; the next call does not tell it again."""
    here, SEEN[:] = list(SEEN), []
    return here + FILES.taken()


def check() -> None:
    """AssertionError with what is new."""
    found = taken()
    assert not found, f"{len(found)} answers are not what the API says: {found[:10]}"
