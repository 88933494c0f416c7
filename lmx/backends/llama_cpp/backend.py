"""The Backend protocol on llama.cpp: every step is one llama_decode over all running sequences."""

import time
from collections.abc import Callable
from typing import Final, Literal

import llama_cpp

from lmx.backends.base import EngineFatal, Event, Info, LoadError, Prefilled, SeqError, SeqSpec, Stats, Token
from lmx.backends.llama_cpp.batch import Part
from lmx.backends.llama_cpp.context import Context
from lmx.backends.llama_cpp.library import errors
from lmx.backends.llama_cpp.model import Model
from lmx.backends.llama_cpp.row import Row, share
from lmx.backends.llama_cpp.threads import ThreadGovernor
from lmx.backends.sampling import NonFiniteLogits, Sampler
from lmx.machines.types import ModelSpec

OK, NO_ROOM, ABORTED, INVALID = 0, 1, 2, -1
FAILURES: Final = {
    NO_ROOM: "no room in the KV cache",
    ABORTED: "the computation was aborted",
    INVALID: "llama.cpp rejected the batch",
}
"""Codes of llama_decode after which the context still works; any other one but OK leaves it in an unknown state."""

WARM_UP_TOKENS = 64
"""Enough for the matrix-matrix kernels of a GPU, and soon done on a CPU."""


class LlamaCppBackend:
    """GGUF models. A sequence owns a slot of the KV cache; only whole slots are ever forgotten."""

    _model: Model
    _context: Context
    _governor: ThreadGovernor

    def __init__(self) -> None:
        self._rows: dict[int, Row] = {}
        self._free: set[int] = set()
        self._poisoned: set[int] = set()
        self._banned: list[int] = []
        self._loaded = False

    def load(self, spec: ModelSpec, progress: Callable[[float], bool]) -> Info:
        model = Model(spec.path, progress)
        try:
            self._context = Context(model, spec)
        except LoadError:
            model.close()
            raise
        self._model, self._loaded = model, True
        self._free = set(range(self._context.slots))
        vocab = model.vocab
        self._banned = vocab.banned_tokens()
        self._governor = ThreadGovernor(self._context.threads)
        return Info(
            version=f"llama-cpp-python {llama_cpp.__version__}",
            context=self._context.length,
            slots=self._context.slots,
            eos=vocab.end_tokens(),
            token_bytes=vocab.token_bytes(),
            chat_template=model.chat_template,
            weights_bytes=model.weights_bytes,
            bos=vocab.bos(),
            bos_text=vocab.bos_text(),
            eos_text=vocab.eos_text(),
        )

    def encode(self, text: str, *, special: bool) -> list[int]:
        return self._model.vocab.encode(text, special=special)

    def warm_up(self) -> None:
        """One token with one thread and with all; then the shapes that steps have: a prompt, a token of each slot."""
        context = self._context
        prompt = [0] * min(context.length, WARM_UP_TOKENS)
        context.set_warm_up(True)
        codes = [self._try_out(threads) for threads in (1, 1, context.threads, context.threads)]
        codes.append(context.decode([Part(0, 0, prompt, logits=True)]))
        context.set_warm_up(False)
        context.forget(0)
        codes.append(context.decode([Part(slot, 0, (0,), logits=True) for slot in range(context.slots)]))
        for slot in range(context.slots):
            context.forget(slot)
        if any(codes):
            raise EngineFatal(f"warm-up: llama_decode returned {codes}: {errors.reason()}")

    def _try_out(self, threads: int) -> int:
        """Let the governor know what a token takes with so many threads: the machine may be busy already."""
        self._context.set_threads(threads)
        began = time.perf_counter()
        code = self._context.decode([Part(0, 0, (0,), logits=True)])
        now = time.perf_counter()
        if threads == 1:
            self._governor.calibrate(now - began)
        else:
            self._governor.stepped(1, now - began, now)
        self._context.forget(0)
        self._context.set_threads(self._governor.threads)
        return code

    def free_slots(self) -> int:
        return len(self._free)

    def add(self, spec: SeqSpec) -> None:
        slot = min(self._free)  # dense slots: llama.cpp computes consecutive ones together
        sampler = Sampler(spec.sampling, spec.prompt, self._model.vocab.size, banned=self._banned, audit=spec.audit)
        self._free.remove(slot)
        self._rows[spec.id] = Row(spec, slot, sampler)

    def step(self, chunk: int) -> list[Event]:
        work = self._plan(chunk)
        if not work:
            return []
        code = self._decode([part for _, part in work])
        if self._separable(code) and len(work) > 1:
            return [event for one in work for event in self._events([one], self._context.decode([one[1]]))]
        return self._events(work, code)

    def cancel(self, seq: int) -> None:
        if row := self._rows.get(seq):
            self._release(row)

    def stats(self) -> Stats:
        used = sum(self._context.used(slot) for slot in range(self._context.slots)) if self._loaded else 0
        return Stats(running=len(self._rows), kv_used=used)

    def close(self) -> None:
        """Free the context before the model that it points into; a second call does nothing."""
        if self._loaded:
            self._loaded = False
            self._rows.clear()
            self._context.close()
            self._model.close()

    def _decode(self, parts: list[Part]) -> int:
        began, threads = time.perf_counter(), self._governor.threads
        code = self._context.decode(parts)
        if all(len(part.tokens) == 1 for part in parts):
            now = time.perf_counter()
            self._governor.stepped(len(parts), now - began, now)
        if self._governor.threads != threads:
            self._context.set_threads(self._governor.threads)
        return code

    def _plan(self, chunk: int) -> list[tuple[Row, Part]]:
        """What this step computes, in the order of slots: a token of each decoding row, and some prompt tokens."""
        amounts = {row: 1 for row in self._rows.values() if not row.remaining}
        room = self._context.batch_tokens - len(amounts)
        amounts |= share(self._rows.values(), min(max(chunk, 1), room))
        return [(row, row.part(tokens)) for row, tokens in sorted(amounts.items(), key=lambda item: item[0].slot)]

    def _separable(self, code: int) -> bool:
        """Nothing was computed, so the rows can be tried one by one to find the one at fault.

        Not after NO_ROOM with a recurrent state: that may have moved already.
        """
        return code == INVALID or (code == NO_ROOM and not self._model.has_state)

    def _events(self, work: list[tuple[Row, Part]], code: int) -> list[Event]:
        """What came of decoding `work` with `code`."""
        if code in FAILURES:
            return [self._fail(row, f"{FAILURES[code]}: {errors.reason()}") for row, _ in work]
        if code != OK:
            raise EngineFatal(f"llama_decode returned {code}: {errors.reason()}")
        events: list[Event] = []
        end = 0
        for row, part in work:
            end += len(part.tokens)
            if row.remaining:
                row.done += len(part.tokens)
                events.append(Prefilled(row.spec.id, row.done))
            else:
                row.done += 1
            if part.logits:
                events.append(self._draw(row, end - 1))
        return events

    def _draw(self, row: Row, index: int) -> Token | SeqError:
        """The next token of `row`, from the logits of the batch's token `index`."""
        try:
            row.token = row.sampler.next(self._context.logits(index))
        except NonFiniteLogits as error:
            self._poisoned.add(row.slot)
            return self._fail(row, str(error))
        row.written += 1
        reason: Literal["stop", "length"] | None = None
        if row.token in row.spec.stop_ids:
            reason = "stop"
        elif row.written == row.spec.max_tokens:
            reason = "length"
        if reason:
            self._release(row)
        return Token(row.spec.id, row.token, reason)

    def _fail(self, row: Row, message: str) -> SeqError:
        self._release(row)
        return SeqError(row.spec.id, message)

    def _release(self, row: Row) -> None:
        """Free the slot, unless non-finite numbers are in it: those slots come back once nothing runs any more."""
        del self._rows[row.spec.id]
        self._context.forget(row.slot)
        if row.slot not in self._poisoned:
            self._free.add(row.slot)
        if self._poisoned and not self._rows:
            self._context.wipe()
            self._free |= self._poisoned
            self._poisoned.clear()
