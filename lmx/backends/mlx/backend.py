"""The Backend protocol on mlx-lm's BatchGenerator: every step is one `next()` of it."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from lmx.backends.base import EngineFatal, Event, Info, Prefilled, SeqError, SeqSpec, Stats, Token
from lmx.backends.mlx.folder import Folder
from lmx.backends.mlx.imports import BatchGenerator, StopSequences, mx
from lmx.backends.mlx.loading import Model, load_weights
from lmx.backends.mlx.sampling import RowSampling
from lmx.backends.mlx.tokenizer import TextTokenizer, load_tokenizer
from lmx.machines.types import ModelSpec, Sampling

SETTLE_STEPS = 64
"""Steps between evaluations of whole caches: those of recurrent layers otherwise grow a graph without end."""

WARM_UP_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Row:
    """A sequence under mlx-lm's number for it."""

    seq: int
    uid: int
    sampling: RowSampling


class MlxBackend:
    """MLX models. Everything but `encode` belongs to the thread that loaded the model: streams are tied to threads."""

    _tokenizer: TextTokenizer
    _model: Model
    _batch: BatchGenerator

    def __init__(self) -> None:
        self._rows: dict[int, Row] = {}
        self._by_uid: dict[int, Row] = {}
        self._slots = 0
        self._steps = 0
        self._loaded = False

    def load(self, spec: ModelSpec, progress: Callable[[float], bool]) -> Info:
        folder = Folder(spec.path)
        self._tokenizer = load_tokenizer(folder.path)
        self._model = load_weights(folder, progress)
        self._slots = spec.slots if self._model.batches else 1
        self._batch = BatchGenerator(self._model.module, completion_batch_size=self._slots, prefill_batch_size=1)
        self._loaded = True
        return self._info(spec, folder)

    def encode(self, text: str, *, special: bool) -> list[int]:
        return self._tokenizer.encode(text, special=special)

    def warm_up(self) -> None:
        """A greedy and a drawn sequence, so that the kernels of both exist; together where there is room."""
        prompt = [0] * WARM_UP_TOKENS
        for seq, temperature in enumerate((0.0, 1.0)):
            if not self.free_slots():
                self._drain()
            self.add(SeqSpec(seq, prompt, 3, Sampling(temperature=temperature)))
        self._drain()

    def free_slots(self) -> int:
        return self._slots - len(self._rows)

    def add(self, spec: SeqSpec) -> None:
        sampling = RowSampling(spec)
        (uid,) = self._batch.insert(
            [list(spec.prompt)],
            max_tokens=[spec.max_tokens],
            caches=[self._model.new_cache()],
            samplers=[sampling.sampler],
            logits_processors=[sampling.processors],
            stop_sequences=[_stop_sequences(spec.stop_ids)],
        )
        self._rows[spec.id] = self._by_uid[uid] = Row(spec.id, uid, sampling)

    def step(self, chunk: int) -> list[Event]:
        if not self._rows:
            return []
        self._batch.prefill_step_size = max(chunk, 1)
        try:
            prompts, generated = self._batch.next()  # type: ignore[no-untyped-call]
            self._settle()
        except (RuntimeError, ValueError) as error:
            raise EngineFatal(f"a step of mlx-lm failed: {error}") from error
        events: list[Event] = [self._generated(response) for response in generated]
        events += self._prefilled(prompts)
        if not self._rows:
            mx.clear_cache()
        return events

    def cancel(self, seq: int) -> None:
        if row := self._rows.get(seq):
            self._release(row)
            with mx.stream(self._batch.stream):
                self._batch.remove([row.uid])  # type: ignore[no-untyped-call]

    def stats(self) -> Stats:
        """Counted in mlx-lm's own rows: what it forgot to drop shows here."""
        if not self._loaded:
            return Stats(running=0, kv_used=0)
        rows = (*self._batch._prompt_batch.tokens, *self._batch._generation_batch.tokens)
        return Stats(running=len(self._rows), kv_used=sum(map(len, rows)))

    def close(self) -> None:
        """Give the memory back; a second call does nothing."""
        if self._loaded:
            self._loaded = False
            self._rows.clear()
            self._by_uid.clear()
            self._batch.close()  # type: ignore[no-untyped-call]
            del self._batch, self._model
            mx.clear_cache()

    def _info(self, spec: ModelSpec, folder: Folder) -> Info:
        prefix = self._tokenizer.prefix()
        named = self._tokenizer.token_id(folder.eos_text)
        return Info(
            version=f"mlx-lm {version('mlx-lm')}, mlx {version('mlx')}",
            context=min(spec.context, folder.context or spec.context),
            slots=self._slots,
            eos=folder.eos_ids | ({named} if named is not None else set()),
            token_bytes=self._tokenizer.token_bytes(self._model.width),
            chat_template=folder.chat_template,
            weights_bytes=self._model.weights_bytes,
            bos=prefix[0] if prefix else None,
            bos_text=folder.bos_text,
            eos_text=folder.eos_text,
        )

    def _generated(self, response: Any) -> Token | SeqError:
        row = self._by_uid[response.uid]
        if fault := row.sampling.fault():
            self.cancel(row.seq)
            return SeqError(row.seq, fault)
        if response.finish_reason:
            self._release(row)
        return Token(row.seq, response.token, response.finish_reason)

    def _prefilled(self, responses: list[Any]) -> Iterator[Prefilled]:
        for response in responses:
            done, _ = response.progress
            yield Prefilled(self._by_uid[response.uid].seq, done)

    def _release(self, row: Row) -> None:
        del self._rows[row.seq], self._by_uid[row.uid]

    def _settle(self) -> None:
        """Now and then compute all that the caches hold, so that no lazy remainder of old steps lives on."""
        self._steps += 1
        if self._steps % SETTLE_STEPS == 0:
            with mx.stream(self._batch.stream):
                mx.eval([cache.state for cache in self._batch._generation_batch.prompt_cache])

    def _drain(self) -> None:
        while self.step(WARM_UP_TOKENS):
            pass


@functools.lru_cache(maxsize=256)
def _stop_sequences(stop_ids: frozenset[int]) -> StopSequences:
    return StopSequences([[token] for token in stop_ids])
