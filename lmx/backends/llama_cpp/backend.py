"""The Backend protocol on llama.cpp."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from lmx.backends.base import EngineFatal, Event, Handle, Info, LoadAborted, LoadError, SeqSpec, Stats
from lmx.backends.llama_cpp.adapters import Adapters
from lmx.backends.llama_cpp.context import Context, physical_cores
from lmx.backends.llama_cpp.embedding import LlamaEmbedder, end_tokens, pair_text
from lmx.backends.llama_cpp.export import pack, unpack
from lmx.backends.llama_cpp.guesser import guesser_for
from lmx.backends.llama_cpp.identity import kv_key
from lmx.backends.llama_cpp.library import errors, lib
from lmx.backends.llama_cpp.model import Model
from lmx.backends.llama_cpp.runner import Runner
from lmx.backends.llama_cpp.slots import KvHandle
from lmx.backends.llama_cpp.vision import Eyes
from lmx.machines.frames import Memory
from lmx.machines.types import ModelSpec


class LlamaCppBackend:
    """GGUF models. All have an embedder; those that write text have a runner."""

    _model: Model
    _embedder: LlamaEmbedder

    def __init__(self) -> None:
        self._loaded = False
        self._runner: Runner | None = None
        self._eyes: Eyes | None = None
        self._key = ""

    def load(self, spec: ModelSpec, progress: Callable[[float], bool]) -> Info:
        self._model = Model(spec.path, progress)
        self._embedder = LlamaEmbedder(self._model, spec.threads or physical_cores())
        self._loaded = True
        info = self._describe(spec)
        try:
            self._embedder.adapters = adapters = Adapters(self._model, spec.adapters)
            return self._prepare(spec, info, adapters, progress) if self._model.generates else info
        except (LoadError, LoadAborted):
            self.close()
            raise

    def encode(self, text: str, *, special: bool) -> list[int]:
        return self._model.vocab.encode(text, special=special)

    def warm_up(self) -> None:
        if self._runner:
            self._runner.warm_up()
        else:
            self._embedder.score([[0]]) if self._embedder.scores else self._embedder.embed([[0]])

    def free_slots(self) -> int:
        return self._runner.slots.free if self._runner else 0

    def add(self, spec: SeqSpec) -> None:
        if self._runner is None:
            raise EngineFatal("a model that writes no text was given a sequence")
        self._runner.add(spec)

    def step(self, chunk: int) -> list[Event]:
        return self._runner.step(chunk) if self._runner else []

    def release(self, seq: int, *, keep: bool = False) -> KvHandle | None:
        return self._runner.release(seq, keep=keep) if self._runner else None

    def snapshot(self, seq: int) -> KvHandle | None:
        return self._runner.snapshot(seq) if self._runner else None

    def drop(self, handle: Handle) -> None:
        if self._runner and isinstance(handle, KvHandle):
            self._runner.slots.drop(handle)

    def save(self, handle: Handle) -> list[memoryview]:
        if self._runner is None or not isinstance(handle, KvHandle):
            return []
        state = self._runner.slots.state(handle)
        return [] if state is None else pack(state, handle.tokens, self._key)

    def restore(self, data: memoryview, tokens: int) -> KvHandle | None:
        state = unpack(data, tokens, self._key)
        return None if state is None else KvHandle(tokens, state=state)

    def trim(self) -> None:
        self._embedder.close()
        if self._runner:
            self._runner.context.trim()

    def embed(self, prompts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        return self._embedder.embed(prompts)

    def score(self, prompts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        return self._embedder.score(prompts)

    def stats(self) -> Stats:
        if not self._loaded:
            return Stats(running=0, kv_used=0)
        weights = int(self._model.weights_bytes)
        return self._runner.stats(weights) if self._runner else Stats(0, 0, Memory(weights=weights))

    def close(self) -> None:
        """Free the contexts before the model that they point into; a second call does nothing."""
        if not self._loaded:
            return
        self._loaded = False
        if self._runner:
            self._runner.close()
            self._runner = None
        if self._eyes:
            self._eyes.close()
            self._eyes = None
        self._embedder.close()
        self._model.close()

    def _prepare(self, spec: ModelSpec, info: Info, adapters: Adapters, progress: Callable[[float], bool]) -> Info:
        """Make ready to write text."""
        context = Context(self._model, spec)
        self._runner = runner = Runner(self._model, context)
        if spec.mmproj:
            self._eyes = Eyes(self._model, spec.mmproj, context.threads)
        if not adapters.use(context.handle):
            raise LoadError(f"the adapters of {spec.path} cannot be applied to it: {errors.reason()}")
        runner.guesser, speculation = guesser_for(self._model, spec, context, lambda _: progress(1.0))
        self._key = kv_key(spec, self._model, context)
        return replace(
            info,
            context=context.length,
            slots=context.slots,
            prompts=context.slots,
            prefix="trim" if context.trims else "snapshot",
            speculation=speculation,
            kv_key=self._key,
            look=self._eyes.look if self._eyes else None,
        )

    def _describe(self, spec: ModelSpec) -> Info:
        """What is known without a context."""
        model, vocab = self._model, self._model.vocab
        return Info(
            version=f"llama-cpp-python {llama_cpp.__version__}",
            context=min(spec.context, model.train_context),
            slots=0,
            eos=vocab.end_tokens(),
            token_bytes=vocab.token_bytes(),
            controls=vocab.controls(),
            chat_template=model.chat_template,
            weights_bytes=model.weights_bytes,
            bos=vocab.bos(),
            bos_text=vocab.bos_text(),
            eos_text=vocab.eos_text(),
            device="gpu" if lib.llama_supports_gpu_offload() else "cpu",
            speculation="off: it writes no text",
            embedding=self._embedder.width,
            generates=model.generates,
            pair=pair_text(model) if self._embedder.scores else "",
            ends=end_tokens(model),
        )
