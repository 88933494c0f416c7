"""The Backend protocol for mlx-lm's models."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from lmx.backends.base import Event, Handle, Info, LoadError, SeqSpec, Stats
from lmx.backends.mlx import memory, store
from lmx.backends.mlx.batch import Batch
from lmx.backends.mlx.embedding import MlxEmbedder
from lmx.backends.mlx.fingerprint import kv_key
from lmx.backends.mlx.folder import Folder
from lmx.backends.mlx.handle import CacheHandle
from lmx.backends.mlx.imports import mx
from lmx.backends.mlx.loading import load_weights
from lmx.backends.mlx.model import Model
from lmx.backends.mlx.speculative import Speculative
from lmx.backends.mlx.tokenizer import TextTokenizer, load_tokenizer
from lmx.machines.types import ModelSpec, Sampling

WARM_UP_TOKENS = 16
NO_LOOKUP = "off: mlx-lm's batches cannot take guesses"


class MlxBackend:
    """MLX models. Everything but `encode` belongs to the thread that loaded the model: streams are tied to threads."""

    _tokenizer: TextTokenizer
    _model: Model
    _embedder: MlxEmbedder

    def __init__(self) -> None:
        self._batch: Batch | Speculative | None = None
        self._limits = memory.Limits()
        self._slots = 0
        self._kv_key = ""

    def load(self, spec: ModelSpec, progress: Callable[[float], bool]) -> Info:
        folder = Folder(spec.path)
        self._tokenizer = load_tokenizer(folder.path)
        drafts = _drafts(spec)
        self._model = load_weights(folder, spec, _part(progress, 0.0, 0.8 if drafts else 1.0))
        self._embedder = MlxEmbedder(self._model.module, folder.path, self._tokenizer)
        self._slots = (spec.slots if self._model.batches else 1) if self._embedder.generates else 0
        self._kv_key = kv_key(spec, draft=drafts) if self._model.prefix != "none" else ""
        self._batch = self._speculative(spec, progress) if drafts else Batch(self._model, self._slots)
        self._limits.apply(spec)
        return self._info(spec, folder)

    def encode(self, text: str, *, special: bool) -> list[int]:
        return self._tokenizer.encode(text, special=special)

    def warm_up(self) -> None:
        """A greedy and a drawn sequence, so that the kernels of both exist."""
        prompt = [0] * WARM_UP_TOKENS
        if not self._slots:
            self.embed([prompt])
            return
        for seq, temperature in enumerate((0.0, 1.0)):
            self.add(SeqSpec(seq, prompt, 3, Sampling(temperature=temperature)))
            while self.step(WARM_UP_TOKENS):
                pass
            self.release(seq)

    def free_slots(self) -> int:
        return self._loaded.free

    def add(self, spec: SeqSpec) -> None:
        self._loaded.add(spec)

    def step(self, chunk: int) -> list[Event]:
        return self._loaded.step(max(chunk, 1))

    def release(self, seq: int, *, keep: bool = False) -> Handle | None:
        return self._loaded.release(seq, keep=keep)

    def snapshot(self, seq: int) -> Handle | None:
        return self._loaded.snapshot(seq)

    def drop(self, handle: Handle) -> None:
        assert isinstance(handle, CacheHandle)
        handle.caches = []

    def save(self, handle: Handle) -> list[memoryview]:
        assert isinstance(handle, CacheHandle)
        return store.save(handle, self._kv_key)

    def restore(self, data: memoryview, tokens: int) -> Handle | None:
        return store.restore(data, self._kv_key, tokens, self._loaded.new_cache())

    def trim(self) -> None:
        mx.clear_cache()

    def embed(self, prompts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        return self._embedder.embed(prompts)

    def score(self, prompts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        return self._embedder.score(prompts)

    def stats(self) -> Stats:
        if self._batch is None:
            return Stats(running=0, kv_used=0)
        batch = self._batch
        numbers = memory.numbers(self._model.weights_bytes, batch.nbytes)
        stats = Stats(running=batch.running, kv_used=batch.kv_used, memory=numbers)
        if isinstance(batch, Batch):
            return stats
        gate = batch.gate
        return replace(stats, drafted=gate.drafted, accepted=gate.accepted, speculating=gate.speculating)

    def close(self) -> None:
        """Give the memory back; a second call does nothing."""
        if self._batch is not None:
            self._batch.close()
            self._batch = None
            del self._model, self._embedder
            self._limits.restore()
            mx.clear_cache()

    @property
    def _loaded(self) -> Batch | Speculative:
        assert self._batch is not None, "no model is loaded"
        return self._batch

    def _speculative(self, spec: ModelSpec, progress: Callable[[float], bool]) -> Speculative:
        """Two models for one sequence."""
        folder = Folder(spec.draft)
        draft_spec = ModelSpec(name=spec.name, path=spec.draft, backend="mlx", context=spec.context)
        draft = load_weights(folder, draft_spec, _part(progress, 0.8, 1.0))
        size = min(draft.width, self._model.width)
        if load_tokenizer(folder.path).token_bytes(size) != self._tokenizer.token_bytes(size):
            raise LoadError(f"{spec.draft} has another vocabulary than {spec.path}; choose a draft model of its family")
        self._slots = 1
        self._model = replace(self._model, weights_bytes=self._model.weights_bytes + draft.weights_bytes)
        return Speculative(self._model, draft, spec.draft_tokens)

    def _info(self, spec: ModelSpec, folder: Folder) -> Info:
        prefix = self._tokenizer.prefix()
        named = self._tokenizer.token_id(folder.eos_text)
        return Info(
            version=f"mlx-lm {version('mlx-lm')}, mlx {version('mlx')}",
            context=min(spec.context, folder.context or spec.context),
            slots=self._slots,
            eos=folder.eos_ids | ({named} if named is not None else set()),
            token_bytes=self._tokenizer.token_bytes(self._model.width),
            controls=self._tokenizer.controls(self._model.width),
            chat_template=folder.chat_template,
            weights_bytes=self._model.weights_bytes,
            bos=prefix[0] if prefix else None,
            bos_text=folder.bos_text,
            eos_text=folder.eos_text,
            device="cpu" if mx.default_device() == mx.cpu else "gpu",
            prefix=self._model.prefix,
            speculation=_speculation(spec),
            embedding=self._embedder.width,
            generates=self._embedder.generates,
            pair=self._embedder.pair,
            ends=self._tokenizer.suffix(),
            kv_key=self._kv_key,
            prompts=self._model.prompts(self._slots) if isinstance(self._batch, Batch) else 1,
        )


def _drafts(spec: ModelSpec) -> bool:
    """Whether a draft model is to be loaded. Raises LoadError where one is wanted and none is named."""
    if spec.speculation == "draft" and not spec.draft:
        raise LoadError(f"speculation of {spec.name} is draft, but no draft model is given; set `draft` to its folder")
    return bool(spec.draft) and spec.speculation in ("auto", "draft")


def _speculation(spec: ModelSpec) -> str:
    if _drafts(spec):
        return "draft"
    return "off: as configured" if spec.speculation == "off" else NO_LOOKUP


def _part(progress: Callable[[float], bool], start: float, end: float) -> Callable[[float], bool]:
    """Progress of one of several models."""
    return lambda fraction: progress(start + (end - start) * fraction)
