"""A backend without a model: deterministic, and scriptable in its faults. For tests of everything above the engine.

It answers with an echo: the tokens of the prompt, once (again while `min_tokens` forbids the end), then its
end-of-sequence token; under a mask that forbids the next one, the lowest token that is allowed. The token that it wants
has the log-probability -ln 2, every other one, in the order of ids, that of its predecessor less ln 2; in a prompt it
expects each token to come twice. The script is a list of `word=value` separated by `;`:

    load=2.0         seconds that a load takes                 fail_load=TEXT   the load fails with this message
    step=0.02        seconds that a step takes                 warm_fails=TEXT  the warm-up fails
    die=load         SIGKILL itself while loading              die=token:17     … at the 17th token of a sequence
    stall=token:17   never come back from that step            error=token:3    fail that sequence alone
    lie=1            never give the same answer twice          fatal=token:2    the engine breaks
    burst=3          tokens of a sequence in one step          prompts=1        how many it reads side by side
    prefix=snapshot  as in base.Info; else `trim`              poison=TEXT      SIGKILL itself for a prompt with it
    oom=token:3      its memory is used up                     gpu=token:3      … its GPU is lost
    segv=token:3     SIGSEGV itself                            exit=token:3     end with code 0
    junk=token:3     write what is no frame                    half=token:3     … half a frame, and exit
    huge=token:3     … the head of a frame of 1 GiB            endless=TEXT     say `a` for ever to a prompt with it
    babble=1         with each step, tell of sequences that are gone, and of one that never was
    say=TEXT         answer with this text, percent-encoded    answers=PATH     … with the one for what the prompt holds

`answers` names a JSON file: an object of texts to look for in the prompt (the last one in it counts), and answers.
Once the thought in such an answer was ended for it, the rest of the answer follows.

The faults of `lmx.backends.fake_faults` come at a `token:`, counted in this worker, or at the `load`.
"""

import os
import signal
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lmx.backends.base import (
    Event,
    Handle,
    Info,
    LoadAborted,
    LoadError,
    Prefilled,
    Reuse,
    SeqError,
    SeqSpec,
    Snapshot,
    Stats,
)
from lmx.backends.fake_answers import Answers, answers
from lmx.backends.fake_faults import FAULTS, babble
from lmx.backends.fake_row import EOS, Row
from lmx.machines.types import ModelSpec

EMBEDDING = 16
TEMPLATE = (
    "{% if tools %}<tools>{{ tools | tojson }}</tools>{# called by <tool_call>{…}</tool_call> #}{% endif %}"
    "{{ messages[-1]['content'] }}"
    "{% if enable_thinking %}<think>\n{% endif %}"
)
WORDS = frozenset(
    {
        "load",
        "fail_load",
        "step",
        "warm_fails",
        *FAULTS,
        "babble",
        "endless",
        "error",
        "lie",
        "burst",
        "prompts",
        "prefix",
        "poison",
        "say",
        "answers",
    }
)


def parse(script: str) -> dict[str, str]:
    """Raises LoadError on a word that the script language does not have."""
    pairs = [part.partition("=") for part in script.split(";") if part.strip()]
    words = {word.strip(): value.strip() for word, _, value in pairs}
    if unknown := words.keys() - WORDS:
        raise LoadError(f"The fake backend's script does not know {', '.join(sorted(unknown))!r}.")
    return words


@dataclass(frozen=True, eq=False)
class FakeHandle:
    ids: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        return 4 * len(self.ids)


@dataclass
class FakeBackend:
    kept: set[Handle] = field(default_factory=set)
    """Handles that were handed out and neither dropped nor given away: a test may look for leaks."""
    _words: dict[str, str] = field(default_factory=dict)
    _slots: int = 0
    _rows: dict[int, Row] = field(default_factory=dict)
    _lies: int = 0
    _faults: dict[str, Callable[[], None]] = field(default_factory=dict)
    """By the place where they come."""
    _answers: Answers = field(default_factory=Answers)
    _gone: deque[int] = field(default_factory=lambda: deque(maxlen=8))
    """The latest sequences that were released, for a script that babbles."""

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
        self._faults = {self._words[word]: fault for word, fault in FAULTS.items() if word in self._words}
        self._answers = answers(self._words)
        self._act("load")
        return self._info(spec)

    def _info(self, spec: ModelSpec) -> Info:
        prefix = self._words.get("prefix", "trim")
        return Info(
            version="1",
            context=spec.context,
            slots=spec.slots,
            eos=frozenset({EOS}),
            token_bytes=[bytes([byte]) for byte in range(EOS)] + [b""],
            chat_template=TEMPLATE,
            weights_bytes=0,
            prompts=int(self._words.get("prompts", spec.slots)),
            prefix="snapshot" if prefix == "snapshot" else "none" if prefix == "none" else "trim",
            speculation="off: the fake backend guesses nothing",
            embedding=EMBEDDING,
            kv_key="fake 1",
        )

    def encode(self, text: str, *, special: bool) -> list[int]:
        return list(text.encode())

    def warm_up(self) -> None:
        if "warm_fails" in self._words:
            raise RuntimeError(self._words["warm_fails"])

    def free_slots(self) -> int:
        return self._slots - len(self._rows)

    def add(self, spec: SeqSpec) -> None:
        row = self._rows[spec.id] = Row(spec)
        row.answer = self._answers.to(bytes(row.asked[0]))
        if spec.reuse is not None:
            self._take_up(row, spec.reuse)

    def step(self, chunk: int) -> list[Event]:
        time.sleep(float(self._words.get("step", "0")))
        if "babble" in self._words:
            babble(self._gone)
        decoding = [row for row in self._rows.values() if row.read and not row.ended]
        events = [event for row in decoding for event in self._decode(row)]
        for row in self._rows.values():
            taken = min(chunk, len(row.spec.prompt) - row.prefilled)
            if taken:
                chunk -= taken
                events += self._read(row, taken)
        return events

    def release(self, seq: int, *, keep: bool = False) -> Handle | None:
        handle = self.snapshot(seq) if keep else None
        self._rows.pop(seq, None)
        self._gone.append(seq)
        return handle

    def snapshot(self, seq: int) -> Handle | None:
        row = self._rows.get(seq)
        return self._keep(row.computed) if row is not None else None

    def drop(self, handle: Handle) -> None:
        self.kept.remove(handle)

    def save(self, handle: Handle) -> list[memoryview]:
        return [memoryview(array("i", _ids(handle)).tobytes())]

    def restore(self, data: memoryview, tokens: int) -> Handle | None:
        if len(data) != 4 * tokens:
            return None
        return self._keep(tuple(array("i", data.tobytes())))

    def trim(self) -> None:
        """It holds nothing for speed."""

    def embed(self, prompts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Which tokens a prompt has, modulo the length of an embedding."""
        counts = [np.bincount(np.asarray(prompt) % EMBEDDING, minlength=EMBEDDING) for prompt in prompts]
        rows = np.asarray(counts, np.float32)
        unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit

    def score(self, prompts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """How much of a prompt repeats what it said before."""
        return np.asarray([1 - len(set(prompt)) / len(prompt) for prompt in prompts], np.float32)

    def stats(self) -> Stats:
        return Stats(len(self._rows), sum(row.prefilled + len(row.fresh) for row in self._rows.values()))

    def close(self) -> None:
        self._rows.clear()
        self.kept.clear()

    def _keep(self, ids: tuple[int, ...]) -> Handle | None:
        if not ids or self._words.get("prefix") == "none":
            return None
        handle = FakeHandle(ids)
        self.kept.add(handle)
        return handle

    def _take_up(self, row: Row, reuse: Reuse) -> None:
        """Raises ValueError when the engine broke the contract."""
        known, whole = _ids(reuse.handle), self._words.get("prefix") == "snapshot"
        fits = reuse.tokens == len(known) if whole else reuse.tokens <= len(known)
        if not fits or not 0 < reuse.tokens < len(row.spec.prompt) or reuse.handle not in self.kept:
            raise ValueError(f"{reuse.tokens} of {len(known)} known tokens cannot be reused")
        if known[: reuse.tokens] != tuple(row.spec.prompt[: reuse.tokens]):
            raise ValueError("another prompt's tokens cannot be reused")
        row.prefilled = reuse.tokens
        if reuse.whole:
            self.kept.remove(reuse.handle)

    def _read(self, row: Row, taken: int) -> Iterator[Event]:
        spec, before = row.spec, row.prefilled
        row.prefilled += taken
        row.ended = row.read and spec.max_tokens == 0
        cached = spec.reuse.tokens if spec.reuse is not None else 0
        yield Prefilled(spec.id, row.prefilled, cached, row.prompt_logprobs())
        if self._words.get("prefix") == "snapshot":
            for at in spec.checkpoints:
                handle = self._keep(tuple(spec.prompt[:at])) if before < at <= row.prefilled else None
                if handle is not None:
                    yield Snapshot(spec.id, handle)

    def _decode(self, row: Row) -> Iterator[Event]:
        for _ in range(int(self._words.get("burst", "1"))):
            yield self._token(row)
            if row.ended:
                return

    def _token(self, row: Row) -> Event:
        self._act(f"token:{len(row.fresh) + 1}")
        if self._reads("poison", row):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._words.get("error") == f"token:{len(row.written) + 1}":
            return self._fail(row, "the script says so")
        wanted = row.wanted()
        if self._reads("endless", row):
            wanted = ord("a")
        if "lie" in self._words:
            self._lies += 1
            wanted = ord("a") + self._lies % 26
        token = row.choice(wanted)
        if token is None:
            return self._fail(row, "the constraint allows no token")
        taken = row.take(token, wanted)
        mask = row.spec.mask
        return self._fail(row, mask.fault) if mask is not None and mask.fault else taken

    def _reads(self, word: str, row: Row) -> bool:
        """Whether the prompt has the text that the script names."""
        return word in self._words and self._words[word].encode() in bytes(row.asked[0])

    def _fail(self, row: Row, message: str) -> SeqError:
        row.ended = True
        del self._rows[row.spec.id]
        return SeqError(row.spec.id, message)

    def _act(self, place: str) -> None:
        """The script's fault there, if it has one."""
        if fault := self._faults.get(place):
            fault()


def _ids(handle: Handle) -> tuple[int, ...]:
    if not isinstance(handle, FakeHandle):
        raise TypeError(f"{handle!r} is another backend's")
    return handle.ids
