"""Sequences in mlx-lm's BatchGenerator: every step is one `next()` of it."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lmx.backends.base import EngineFatal, Event, Logprob, Prefilled, SeqError, SeqSpec, Snapshot, Token
from lmx.backends.mlx.handle import CacheHandle, kept
from lmx.backends.mlx.imports import BatchGenerator, StopSequences, mx
from lmx.backends.mlx.model import Model
from lmx.backends.mlx.reading import Reading
from lmx.backends.mlx.sampling import RowSampling

SETTLE_STEPS = 64
"""Steps between evaluations of whole caches: those of recurrent layers otherwise grow a graph without end."""

Computed = tuple[list[Any], int]
"""Caches, and how many tokens they cover."""


@dataclass(slots=True, eq=False)
class Row:
    """A sequence: read on its own first (`reading`), then in the batch under mlx-lm's number (`uid`), then `over`."""

    spec: SeqSpec
    sampling: RowSampling
    cached: int = 0
    reading: Reading | None = None
    uid: int | None = None
    over: Computed | None = None


class Batch:
    """Rows by the numbers of their sequences. Belongs to the thread that made it."""

    def __init__(self, model: Model, slots: int) -> None:
        self._model = model
        self._slots = slots
        self._rows: dict[int, Row] = {}
        self._by_uid: dict[int, Row] = {}
        self._steps = 0
        self._generator = BatchGenerator(
            model.module, completion_batch_size=slots, prefill_batch_size=model.prompts(slots)
        )

    @property
    def running(self) -> int:
        return len(self._rows)

    @property
    def free(self) -> int:
        return self._slots - len(self._rows)

    @property
    def kv_used(self) -> int:
        """Counted in mlx-lm's own rows: what it forgot to drop shows here."""
        batched = (*self._generator._prompt_batch.tokens, *self._generator._generation_batch.tokens)
        return sum(map(len, batched)) + sum(reading.done for reading in self._readings())

    @property
    def nbytes(self) -> int:
        alone: int = sum(cache.nbytes for reading in self._readings() for cache in reading.caches)
        return int(self._generator.prompt_cache_nbytes) + alone

    def new_cache(self) -> list[Any]:
        """As handles hold them."""
        return self._model.new_cache()

    def add(self, spec: SeqSpec) -> None:
        row = self._rows[spec.id] = Row(spec, RowSampling(spec))
        caches = self._beginning(row)
        if spec.prompt_logprobs or not spec.max_tokens:  # mlx-lm takes nobody who writes nothing
            row.reading = Reading(self._model.module, spec.prompt, caches, spec.logprobs or 0, row.cached)
        if spec.max_tokens and (row.reading is None or row.reading.finished):
            self._insert(row, caches)

    def step(self, chunk: int) -> list[Event]:
        if not self._rows:
            return []
        prompts = len(self._generator._prompt_batch) + len(self._generator._unprocessed_sequences)
        self._generator.prefill_step_size = max(1, chunk // max(1, prompts))  # shorter ones are padded
        try:
            prompts, generated = self._generator.next()  # type: ignore[no-untyped-call]
            self._settle()
            events: list[Event] = [self._generated(response) for response in generated]
            events += self._prefilled(prompts)
            if not prompts:
                events += self._read(chunk)
        except (RuntimeError, ValueError) as error:
            raise EngineFatal(f"a step of mlx-lm failed: {error}") from error
        return events

    def release(self, seq: int, *, keep: bool) -> CacheHandle | None:
        row = self._rows.pop(seq, None)
        if row is None:
            return None
        with mx.stream(self._generator.stream):
            computed = self._computed(row) if keep else None
            if row.uid is not None:
                del self._by_uid[row.uid]
                self._generator.remove([row.uid])  # type: ignore[no-untyped-call]
            return self._kept(computed)

    def snapshot(self, seq: int) -> CacheHandle | None:
        with mx.stream(self._generator.stream):
            return self._kept(self._computed(self._rows[seq])) if seq in self._rows else None

    def close(self) -> None:
        self._rows.clear()
        self._by_uid.clear()
        self._generator.close()  # type: ignore[no-untyped-call]

    def _beginning(self, row: Row) -> list[Any]:
        """The caches that it starts with."""
        reuse: Any = row.spec.reuse
        if reuse is None or row.spec.prompt_logprobs:
            return self._model.new_cache()
        row.cached = reuse.tokens
        caches: list[Any] = reuse.handle.beginning(reuse.tokens, whole=reuse.whole)
        return caches

    def _insert(self, row: Row, caches: list[Any], done: int | None = None) -> None:
        """The first `done` tokens are in `caches`."""
        spec = row.spec
        start = row.cached if done is None else done
        (row.uid,) = self._generator.insert_segments(
            [self._segments(spec, start)],
            max_tokens=[spec.max_tokens],
            caches=[caches],
            all_tokens=[list(spec.prompt[:start])],
            samplers=[row.sampling.sampler],
            logits_processors=[row.sampling.processors],
            stop_sequences=[_stop_sequences(spec.stop_ids)],
        )
        self._by_uid[row.uid] = row

    def _segments(self, spec: SeqSpec, start: int) -> list[list[int]]:
        """The prompt from `start` on, cut where a snapshot is to be made."""
        ends = [end for end in self._checkpoints(spec) if start < end < len(spec.prompt)]
        cuts = zip([start, *ends], [*ends, len(spec.prompt)], strict=True)
        return [list(spec.prompt[first:last]) for first, last in cuts]

    def _checkpoints(self, spec: SeqSpec) -> Sequence[int]:
        return spec.checkpoints if self._model.prefix == "snapshot" else ()

    def _generated(self, response: Any) -> Token | SeqError:
        row = self._by_uid[response.uid]
        if fault := row.sampling.fault():
            self.release(row.spec.id, keep=False)
            return SeqError(row.spec.id, fault)
        if response.finish_reason:
            row.over = response.prompt_cache, len(response.all_tokens)
        return Token(row.spec.id, response.token, response.finish_reason, self._logprob(row))

    def _logprob(self, row: Row) -> Logprob | None:
        return row.sampling.logprob() if row.spec.logprobs is not None else None

    def _prefilled(self, responses: list[Any]) -> Iterator[Event]:
        for response in responses:
            row = self._by_uid[response.uid]
            spec = row.spec
            done = len(spec.prompt) - response.progress[1] + response.progress[0]
            logprobs = row.reading.take() if row.reading else ()
            yield Prefilled(spec.id, done, row.cached, logprobs)
            if done in self._checkpoints(spec) and (handle := self.snapshot(spec.id)):
                yield Snapshot(spec.id, handle)

    def _read(self, chunk: int) -> Iterator[Prefilled]:
        """The oldest prompt that is read on its own."""
        row = next((row for row in self._rows.values() if row.reading and row.uid is None and row.over is None), None)
        if row is None or row.reading is None:
            return
        spec, reading = row.spec, row.reading
        with mx.stream(self._generator.stream):
            reading.read(chunk)
        if reading.finished and spec.max_tokens:
            self._insert(row, reading.caches, reading.done)
        elif reading.finished:
            row.over = reading.caches, reading.done
        done = len(spec.prompt) if row.over else reading.done
        yield Prefilled(spec.id, done, row.cached, reading.take() if spec.prompt_logprobs else ())

    def _readings(self) -> Iterator[Reading]:
        return (row.reading for row in self._rows.values() if row.reading is not None and row.uid is None)

    def _computed(self, row: Row) -> Computed:
        if row.over is not None:
            return row.over
        if row.uid is None:
            return (row.reading.caches, row.reading.done) if row.reading else ([], 0)
        caches, tokens = self._generator.extract_cache([row.uid])[row.uid]  # type: ignore[no-untyped-call]
        return caches, len(tokens)

    def _kept(self, computed: Computed | None) -> CacheHandle | None:
        if computed is None or not computed[1] or self._model.prefix == "none":
            return None
        return kept(*computed)

    def _settle(self) -> None:
        """Now and then compute all that the caches hold, so that no lazy remainder of old steps lives on."""
        self._steps += 1
        if self._steps % SETTLE_STEPS == 0:
            with mx.stream(self._generator.stream):
                mx.eval([cache.state for cache in self._generator._generation_batch.prompt_cache])


@functools.lru_cache(maxsize=256)
def _stop_sequences(stop_ids: frozenset[int]) -> StopSequences:
    return StopSequences([[token] for token in stop_ids])
