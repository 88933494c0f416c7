"""What the bench and its child processes say to each other: a JSON line each way, on the child's stdin and stdout."""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

T = TypeVar("T", bound=Struct)


class BenchError(Exception):
    """The bench cannot go on; the message is one sentence for the user."""


# --- the load client -------------------------------------------------------------------------------------------------


class Ask(Struct, frozen=True, kw_only=True):
    """One streamed request. All of a plan start together, unless they wait for another one."""

    path: str = "/v1/chat/completions"
    body: dict[str, Any]
    after: tuple[int, int] | None = None
    """(i, n): send it when ask i has received n pieces."""
    until: int | None = None
    """Hang up when that ask has ended."""


class Plan(Struct, frozen=True):
    url: str
    asks: tuple[Ask, ...]
    key: str = ""


class Answer(Struct, frozen=True, kw_only=True):
    """What came back; times are seconds since the plan began. `stamps` has one entry for each chunk with text."""

    sent: float
    ended: float
    stamps: list[float] = field(default_factory=list)
    prompt: int = 0
    """Tokens, as the server counts them; 0 = it does not say."""
    tokens: int = 0
    cached: int = 0
    text: str = ""
    error: str = ""
    """Why it did not work; empty when it did, or when the bench hung up."""

    @property
    def first(self) -> float:
        return self.stamps[0] if self.stamps else self.ended

    @property
    def ttft(self) -> float:
        return self.first - self.sent

    @property
    def gaps(self) -> list[float]:
        return [after - before for before, after in pairwise(self.stamps)]


class Answers(Struct, frozen=True):
    answers: tuple[Answer, ...]


# --- the bare loops --------------------------------------------------------------------------------------------------


class Generate(Struct, frozen=True, tag="generate"):
    """Read prompts of these lengths, then decode `tokens` tokens of all of them together."""

    lengths: tuple[int, ...]
    tokens: int


class Extend(Struct, frozen=True, tag="extend"):
    """Read `new` tokens behind `known` ones that are in the cache already; the median of several times."""

    known: int
    new: int
    times: int = 5


Task = Generate | Extend


class Timing(Struct, frozen=True):
    """Seconds for the prompts up to the first tokens, and for the tokens after them."""

    prefill: float
    decode: float = 0.0


# --- both ------------------------------------------------------------------------------------------------------------


class Child:
    """A child process that answers one command at a time. It sleeps between them."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._module = module
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )

    def call(self, command: Struct, answer: type[T]) -> T:
        """Wait for the answer to `command`. Raises BenchError, with the child's last words, when it is gone."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(msgspec.json.encode(command) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._gone() from None
        if not (line := self._process.stdout.readline()):
            raise self._gone()
        return msgspec.json.decode(line, type=answer)

    def close(self) -> None:
        """End it; a second call does nothing."""
        self._process.terminate()
        self._process.communicate()
        self._log.close()

    def _gone(self) -> BenchError:
        self._log.seek(0)
        words = self._log.read().decode("utf-8", "replace").strip().splitlines()
        return BenchError(f"{self._module} ended: {words[-1] if words else 'it did not say why'}.")


def obey(kind: Any, act: Callable[[Any], Struct]) -> None:
    """The child's side: answer every line of stdin until it ends. Nothing else may print to stdout."""
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(msgspec.json.encode(act(msgspec.json.decode(line, type=kind))) + b"\n")
        sys.stdout.buffer.flush()
