"""Embeddings and relevance scores of a GGUF model, in a small context of their own that is made when first needed."""

import ctypes
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lmx.backends.base import EngineFatal
from lmx.backends.llama_cpp.adapters import Adapters
from lmx.backends.llama_cpp.batch import Batch, Part
from lmx.backends.llama_cpp.library import errors, lib
from lmx.backends.llama_cpp.model import Model

Rows = NDArray[np.float32]
Prompts = Sequence[Sequence[int]]

NONE, MEAN, CLS, LAST, RANK = range(5)
SEQUENCES = 8
"""Prompts of one batch, at most."""
BATCH_TOKENS = 512
"""Read together, at most; a longer prompt is read by itself, in a context that is made for it."""
OUTPUT_BYTES = 64 * 2**20
"""Pooling comes with room for the logits of every token that is read, though nobody asks for them."""
FLASH_AUTO, FLASH_OFF = -1, 0


class LlamaEmbedder:
    """Rows for prompts, in their order; used by the engine thread only.

    A model is pooled as its file says. A generative model, whose file says nothing, gives the state of its last token:
    that is what decoders that were trained to embed are trained for.
    """

    def __init__(self, model: Model, threads: int) -> None:
        """Costs nothing but a look at the metadata."""
        self._model = model
        self._threads = threads
        self.adapters = Adapters(model)
        """What weighs in on every text."""
        architecture = model.metadata("general.architecture")
        said = model.metadata(f"{architecture}.pooling_type")
        self._causal = model.metadata(f"{architecture}.attention.causal") != "false"
        self._pooling: Final = int(said) if said.isdigit() and said != str(NONE) else LAST if self._causal else MEAN
        fitting = OUTPUT_BYTES // (4 * model.vocab.size)
        self._together = BATCH_TOKENS if self._by_token else max(64, min(BATCH_TOKENS, fitting))
        self._context: _Context | None = None
        self.scores = self._pooling == RANK
        self.width = 0 if self.scores else int(lib.llama_model_n_embd_out(model.handle))
        """Numbers of an embedding; 0 = the model only scores."""

    def embed(self, prompts: Prompts) -> Rows:
        """One row of `width` numbers and length 1 for each prompt; none is empty or longer than the model reads.

        A row that is not finite is the model's own doing.
        """
        rows = self._rows(prompts, self.width)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        rows /= np.maximum(lengths, 1e-30)
        return rows

    def score(self, prompts: Prompts) -> Rows:
        """One relevance for each pair, greater for more relevant; only if `scores`."""
        return self._rows(prompts, 1)[:, 0]

    def close(self) -> None:
        """Give the context back; it is made again when needed."""
        if self._context is not None:
            self._context.close()
            self._context = None

    def _rows(self, prompts: Prompts, width: int) -> Rows:
        rows = np.empty((len(prompts), width), np.float32)
        for group in _groups(prompts, self._together):
            context = self._room_for(sum(len(prompts[place]) for place in group))
            rows[group] = context.read([prompts[place] for place in group], width)
        return rows

    def _room_for(self, tokens: int) -> "_Context":
        if self._context is None or self._context.room < tokens:
            room = max(self._together, 1 << (tokens - 1).bit_length())
            self.close()
            self._context = _Context(self._model, self._pooling, room, self._threads, by_token=self._by_token)
            if not self.adapters.use(self._context.handle):
                raise EngineFatal(f"embedding: the adapters cannot be applied: {errors.reason()}")
        return self._context

    @property
    def _by_token(self) -> bool:
        """The last token's state needs no pooling by llama.cpp, which wants all tokens' numbers for it."""
        return self._causal and self._pooling == LAST


class _Context:
    """Reads prompts of `room` tokens together, at most."""

    def __init__(self, model: Model, pooling: int, room: int, threads: int, *, by_token: bool) -> None:
        self.room = room
        self._by_token = by_token
        params: lib.llama_context_params = lib.llama_context_default_params()
        params.embeddings = not by_token
        params.pooling_type = NONE if by_token else pooling
        params.n_ctx = room
        params.n_batch = room
        params.n_ubatch = BATCH_TOKENS if by_token else room
        params.n_seq_max = SEQUENCES
        params.n_outputs_max = SEQUENCES if by_token else room
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified = True
        params.flash_attn_type = FLASH_AUTO if lib.llama_supports_gpu_offload() else FLASH_OFF
        errors.clear()
        self.handle = lib.llama_init_from_model(model.handle, params)
        if not self.handle:
            raise EngineFatal(f"no room for embeddings of {room} tokens: {errors.reason()}")
        self._memory = lib.llama_get_memory(self.handle)
        encodes = not self._memory or lib.llama_model_has_encoder(model.handle)
        self._compute = lib.llama_encode if encodes else lib.llama_decode
        self._batch = Batch(room)

    def read(self, prompts: Prompts, width: int) -> Rows:
        """With embeddings on, llama.cpp computes the logits of every token: those before the last are read without."""
        ends = accumulate(map(len, prompts))
        if self._by_token:
            self._compute_all([Part(slot, 0, prompt[:-1], 0) for slot, prompt in enumerate(prompts)], embeddings=False)
            parts = [Part(slot, len(prompt) - 1, prompt[-1:], 1) for slot, prompt in enumerate(prompts)]
            ends = accumulate([1] * len(prompts))
        else:
            parts = [Part(slot, 0, prompt, len(prompt)) for slot, prompt in enumerate(prompts)]
        self._compute_all(parts, embeddings=True)
        rows = np.stack([self._row(slot, end - 1, width) for slot, end in enumerate(ends)])
        if self._memory:
            lib.llama_memory_clear(self._memory, False)
        return rows

    def _compute_all(self, parts: list[Part], *, embeddings: bool) -> None:
        self._batch.fill(part for part in parts if part.tokens)
        if not self._batch.native.n_tokens:
            return
        lib.llama_set_embeddings(self.handle, embeddings)
        errors.clear()
        if code := self._compute(self.handle, self._batch.native):
            raise EngineFatal(f"embedding: llama.cpp returned {code}: {errors.reason()}")

    def _row(self, slot: int, end: int, width: int) -> Rows:
        """A copy of the numbers of one prompt, whose last token is the batch's token `end`."""
        if self._by_token:
            pointer = lib.llama_get_embeddings_ith(self.handle, end)
        else:
            pointer = lib.llama_get_embeddings_seq(self.handle, slot)
        if not pointer:
            raise EngineFatal("embedding: llama.cpp gave no numbers")
        numbers = (ctypes.c_float * width).from_address(ctypes.addressof(pointer.contents))
        return np.array(numbers, np.float32)

    def close(self) -> None:
        lib.llama_free(self.handle)


def _groups(prompts: Prompts, most: int) -> Iterator[list[int]]:
    """Places of prompts that are read together: of `most` tokens, or a longer one by itself."""
    group: list[int] = []
    tokens = 0
    for place, prompt in enumerate(prompts):
        if group and (len(group) == SEQUENCES or tokens + len(prompt) > most):
            yield group
            group, tokens = [], 0
        group.append(place)
        tokens += len(prompt)
    if group:
        yield group


def pair_text(model: Model) -> str:
    """How a reranking model wants a query and a document: by its own template, or parted by its separators."""
    template = lib.llama_model_chat_template(model.handle, b"rerank")
    if template:
        return str(template.decode("utf-8", "replace"))
    native = lib.llama_model_get_vocab(model.handle)
    first, last, between = lib.llama_vocab_bos(native), lib.llama_vocab_eos(native), lib.llama_vocab_sep(native)
    bos, eos, sep = (
        model.vocab.piece(token, special=True).decode("utf-8", "replace") for token in (first, last, between)
    )
    return f"{bos}{{query}}{eos}{sep}{{document}}{eos}"


def end_tokens(model: Model) -> tuple[int, ...]:
    """What the model wants after a whole text."""
    native = lib.llama_model_get_vocab(model.handle)
    room = 16
    ids = (lib.llama_token * room)()
    count = lib.llama_tokenize(native, b"a", 1, ids, room, True, False)
    framed, bare = list(ids[: max(count, 0)]), model.vocab.encode("a", special=False)
    start = next((at for at in range(len(framed)) if framed[at : at + len(bare)] == bare), len(framed))
    return tuple(framed[start + len(bare) :])
