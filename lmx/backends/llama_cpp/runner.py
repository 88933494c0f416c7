"""All running sequences of one context: every step is one llama_decode over them."""

import time
from typing import Final

from lmx.backends.base import EngineFatal, Event, SeqError, SeqSpec, Snapshot, Stats
from lmx.backends.llama_cpp.batch import Part
from lmx.backends.llama_cpp.context import INVALID, Context
from lmx.backends.llama_cpp.guesser import Guesser
from lmx.backends.llama_cpp.library import errors
from lmx.backends.llama_cpp.model import Model
from lmx.backends.llama_cpp.row import Row, share
from lmx.backends.llama_cpp.slots import KvHandle, Slots
from lmx.backends.llama_cpp.threads import ThreadGovernor
from lmx.backends.sampling import ConstraintFault, NonFiniteLogits, Sampler
from lmx.machines.frames import Memory

OK, NO_ROOM, ABORTED = 0, 1, 2
FAILURES: Final = {
    NO_ROOM: "no room in the KV cache",
    ABORTED: "the computation was aborted",
    INVALID: "llama.cpp rejected the batch",
}
"""Codes of llama_decode after which the context still works; any other one but OK leaves it in an unknown state."""

WARM_UP_TOKENS = 64
"""Enough for the matrix-matrix kernels of a GPU, and soon done on a CPU."""

Work = list[tuple[Row, Part]]


class Runner:
    """Owns the context and the guesser, once there is one."""

    def __init__(self, model: Model, context: Context) -> None:
        self.context = context
        self.slots = Slots(context)
        self.guesser: Guesser | None = None
        self._rows: dict[int, Row] = {}
        self._vocab = model.vocab.size
        self._has_state = model.has_state
        self._banned = model.vocab.banned_tokens()
        self._governor = ThreadGovernor(context.threads)

    def warm_up(self) -> None:
        """One token with one thread and with all; then the shapes that steps have: a prompt, a token of each slot."""
        context = self.context
        self.slots.retire()
        prompt = [0] * min(context.length, WARM_UP_TOKENS)
        context.set_warm_up(True)
        codes = [self._try_out(threads) for threads in (1, 1, context.threads, context.threads)]
        codes.append(context.decode([Part(0, 0, prompt)]))
        context.set_warm_up(False)
        context.forget(0)
        codes.append(context.decode([Part(slot, 0, (0,)) for slot in range(context.slots)]))
        for slot in range(context.slots):
            context.forget(slot)
        if any(codes):
            raise EngineFatal(f"warm-up: llama_decode returned {codes}: {errors.reason()}")

    def add(self, spec: SeqSpec) -> None:
        sampler = Sampler(spec, self._vocab, self._banned)
        slot, cached = self.slots.take(spec.reuse)
        stops = () if self.context.trims else spec.checkpoints
        self._rows[spec.id] = Row(spec, slot, sampler, cached=cached, stops=stops)

    def step(self, chunk: int) -> list[Event]:
        self._close_gap()
        events = self._look()
        began = time.perf_counter()
        work = self._plan(chunk)
        if not work:
            return events
        events += self._compute(work)
        if self.guesser:
            self.guesser.observe(work, time.perf_counter() - began)
        return events

    def release(self, seq: int, *, keep: bool) -> KvHandle | None:
        row = self._rows.pop(seq, None)
        if row is None:
            return None
        if self.guesser:
            self.guesser.forget(row)
        if keep and row.done:
            return self.slots.keep(row.slot, row.done)
        self.slots.end(row.slot)
        return None

    def snapshot(self, seq: int) -> KvHandle | None:
        row = self._rows.get(seq)
        return self.slots.copy(row.slot, row.done) if row and row.done else None

    def stats(self, weights: int) -> Stats:
        """`weights` are the model's own."""
        used = sum(self.context.used(slot) for slot in self.slots.active)
        guesser = self.guesser
        if guesser is None:
            return Stats(len(self._rows), used, Memory(weights=weights, kv=self.context.kv_bytes))
        memory = Memory(weights=weights + guesser.weights_bytes, kv=self.context.kv_bytes + guesser.kv_bytes)
        gate = guesser.gate
        return Stats(len(self._rows), used, memory, gate.drafted, gate.accepted, gate.speculating)

    def close(self) -> None:
        if self.guesser:
            self.guesser.close()
        self.context.close()

    def _try_out(self, threads: int) -> int:
        """Let the governor know what a token takes with so many threads: the machine may be busy already."""
        self.context.set_threads(threads)
        began = time.perf_counter()
        code = self.context.decode([Part(0, 0, (0,))])
        now = time.perf_counter()
        if threads == 1:
            self._governor.calibrate(now - began)
        else:
            self._governor.stepped(1, now - began, now)
        self.context.forget(0)
        self.context.set_threads(self._governor.threads)
        return code

    def _look(self) -> list[Event]:
        """Read the image that is next in somebody's prompt: one a step, so that others wait for no more than that."""
        for row in self._rows.values():
            if (tile := row.tile) is not None:
                code = self.context.decode_tile(row.slot, row.done, tile)
                if code in FAILURES:
                    return [self._fail(row, f"{FAILURES[code]}: {errors.reason()}")]
                if code != OK:
                    raise EngineFatal(f"llama_decode returned {code} for an image: {errors.reason()}")
                return [row.looked(tile)]
        return []

    def _close_gap(self) -> None:
        if moved := self.slots.gap_closed():
            for row in self._rows.values():
                if row.slot == moved[0]:
                    row.slot = moved[1]
            if self.guesser:
                self.guesser.moved(*moved)

    def _plan(self, chunk: int) -> Work:
        """What this step computes, in the order of slots: a token of each decoding row, and some prompt tokens."""
        decoding = [row for row in self._rows.values() if not row.remaining and not row.ended]
        if self.guesser:
            self.guesser.guess(decoding)
        amounts = dict.fromkeys(decoding, 1)
        room = self.context.batch_tokens - sum(1 + len(row.guesses) for row in decoding)
        amounts |= share(self._rows.values(), min(max(chunk, 1), room))
        return [(row, row.part(tokens)) for row, tokens in sorted(amounts.items(), key=lambda item: item[0].slot)]

    def _compute(self, work: Work) -> list[Event]:
        code = self._decode([part for _, part in work])
        if code == NO_ROOM and self.context.unified and self.slots.retire():
            code = self._decode([part for _, part in work])
        if self._separable(code) and len(work) > 1:
            return [event for one in work for event in self._events([one], self.context.decode([one[1]]))]
        return self._events(work, code)

    def _decode(self, parts: list[Part]) -> int:
        began, threads = time.perf_counter(), self._governor.threads
        code = self.context.decode(parts)
        if all(len(part.tokens) == 1 for part in parts):
            now = time.perf_counter()
            self._governor.stepped(len(parts), now - began, now)
        if self._governor.threads != threads:
            self.context.set_threads(self._governor.threads)
        return code

    def _separable(self, code: int) -> bool:
        """Nothing was computed, so the rows can be tried one by one to find the one at fault.

        Not after NO_ROOM with a recurrent state: that may have moved already.
        """
        return code == INVALID or (code == NO_ROOM and not self._has_state)

    def _events(self, work: Work, code: int) -> list[Event]:
        """What came of decoding `work` with `code`."""
        if code in FAILURES:
            return [self._fail(row, f"{FAILURES[code]}: {errors.reason()}") for row, _ in work]
        if code != OK:
            raise EngineFatal(f"llama_decode returned {code}: {errors.reason()}")
        events: list[Event] = []
        first = 0
        for row, part in work:
            events += self._computed(row, part, first)
            first += len(part.tokens)
        return events

    def _computed(self, row: Row, part: Part, first: int) -> list[Event]:
        """What came of `part`, whose tokens begin at the batch's token `first`."""
        events: list[Event] = []
        try:
            events.extend(row.computed(part, lambda place: self.context.logits(first + place)))
        except NonFiniteLogits as error:
            if error.raw:
                self.slots.poison(row.slot)
            return [*events, self._fail(row, str(error))]
        except ConstraintFault as error:
            return [*events, self._fail(row, str(error))]
        return events + self._settled(row, part)

    def _settled(self, row: Row, part: Part) -> list[Event]:
        """Take guesses back that were wrong; hand a checkpoint out that was reached."""
        if row.done < part.start + len(part.tokens) and not self.context.cut(row.slot, row.done):
            raise EngineFatal(f"slot {row.slot} could not be cut to {row.done} tokens")
        if row.at_stop and (handle := self.slots.copy(row.slot, row.done)):
            return [Snapshot(row.spec.id, handle)]
        return []

    def _fail(self, row: Row, message: str) -> SeqError:
        self.release(row.spec.id, keep=False)
        return SeqError(row.spec.id, message)
