"""A backend without a model: deterministic, and scriptable in its faults. For tests of everything above the engine.

It answers with an echo: the tokens of the prompt, once, then its end-of-sequence token. The script is a list of
`word=value` separated by `;`:

    load=2.0         seconds that a load takes                 fail_load=TEXT   the load fails with this message
    step=0.02        seconds that a step takes                 warm_fails=TEXT  the warm-up fails
    die=load         SIGKILL itself while loading              die=token:17     … at the 17th token of a sequence
    stall=token:17   never come back from that step            error=token:3    fail that sequence alone
    lie=1            never give the same answer twice          fatal=token:2    the engine breaks
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lmx.backends.base import (
    EngineFatal,
    Event,
    Info,
    LoadAborted,
    LoadError,
    Prefilled,
    SeqError,
    SeqSpec,
    Stats,
    Token,
)
from lmx.machines.types import ModelSpec

EOS = 256
"""Tokens 0 … 255 are bytes."""
TEMPLATE = "{{ messages[-1]['content'] }}"
WORDS = frozenset({"load", "fail_load", "step", "warm_fails", "die", "stall", "error", "fatal", "lie"})


def parse(script: str) -> dict[str, str]:
    """Raises LoadError on a word that the script language does not have."""
    pairs = [part.partition("=") for part in script.split(";") if part.strip()]
    words = {word.strip(): value.strip() for word, _, value in pairs}
    if unknown := words.keys() - WORDS:
        raise LoadError(f"The fake backend's script does not know {', '.join(sorted(unknown))!r}.")
    return words


@dataclass
class Row:
    spec: SeqSpec
    prefilled: int = 0
    emitted: int = 0


@dataclass
class FakeBackend:
    _words: dict[str, str] = field(default_factory=dict)
    _slots: int = 0
    _rows: dict[int, Row] = field(default_factory=dict)
    _lies: int = 0

    def load(self, spec: ModelSpec, progress: Callable[[float], bool]) -> Info:
        self._words = parse(spec.script)
        self._slots = spec.slots
        deadline = time.monotonic() + float(self._words.get("load", "0"))
        while (left := deadline - time.monotonic()) > 0:
            if not progress(0.5):
                raise LoadAborted
            time.sleep(min(0.02, left))
        if "fail_load" in self._words:
            raise LoadError(self._words["fail_load"])
        if self._words.get("die") == "load":
            os.kill(os.getpid(), signal.SIGKILL)
        pieces = [bytes([byte]) for byte in range(256)] + [b""]
        return Info("1", spec.context, spec.slots, frozenset({EOS}), pieces, TEMPLATE, 0)

    def encode(self, text: str, *, special: bool) -> list[int]:
        return list(text.encode())

    def warm_up(self) -> None:
        if "warm_fails" in self._words:
            raise RuntimeError(self._words["warm_fails"])

    def free_slots(self) -> int:
        return self._slots - len(self._rows)

    def add(self, spec: SeqSpec) -> None:
        self._rows[spec.id] = Row(spec)

    def step(self, chunk: int) -> list[Event]:
        time.sleep(float(self._words.get("step", "0")))
        decoding = [row for row in self._rows.values() if row.prefilled == len(row.spec.prompt)]
        events: list[Event] = [self._decode(row) for row in decoding]
        for row in self._rows.values():
            taken = min(chunk, len(row.spec.prompt) - row.prefilled)
            if taken:
                chunk -= taken
                row.prefilled += taken
                events.append(Prefilled(row.spec.id, row.prefilled))
        return events

    def cancel(self, seq: int) -> None:
        self._rows.pop(seq, None)

    def stats(self) -> Stats:
        return Stats(len(self._rows), sum(row.prefilled + row.emitted for row in self._rows.values()))

    def close(self) -> None:
        self._rows.clear()

    def _decode(self, row: Row) -> Event:
        self._act(row.emitted + 1)
        if self._words.get("error") == f"token:{row.emitted + 1}":
            del self._rows[row.spec.id]
            return SeqError(row.spec.id, "the script says so")
        token = row.spec.prompt[row.emitted] if row.emitted < len(row.spec.prompt) else EOS
        if "lie" in self._words:
            self._lies += 1
            token = ord("a") + self._lies % 26
        row.emitted += 1
        if token in row.spec.stop_ids:
            del self._rows[row.spec.id]
            return Token(row.spec.id, token, "stop")
        if row.emitted == row.spec.max_tokens:
            del self._rows[row.spec.id]
            return Token(row.spec.id, token, "length")
        return Token(row.spec.id, token)

    def _act(self, number: int) -> None:
        """The script's faults at the n-th token of any sequence."""
        at = f"token:{number}"
        if self._words.get("die") == at:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._words.get("stall") == at:
            threading.Event().wait()
        if self._words.get("fatal") == at:
            raise EngineFatal("the script says so")
