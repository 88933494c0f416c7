"""Embeddings and relevance scores of an MLX model, from the states in front of its head."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lmx.backends.base import EngineFatal, LoadError
from lmx.backends.mlx.imports import Module, mx
from lmx.backends.mlx.tokenizer import TextTokenizer

Rows = NDArray[np.float32]
Prompts = Sequence[Sequence[int]]
Pooling = Literal["last", "mean", "cls"]

BATCH_TOKENS = 512
"""Padded tokens of one forward pass; a longer prompt is read by itself."""
POOLING_FILE = Path("1_Pooling", "config.json")
"""Where sentence-transformers writes how a model is pooled."""
POOLINGS: dict[str, Pooling] = {
    "pooling_mode_lasttoken": "last",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
}
INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
PAIR = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct"
    ' provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    f"<Instruct>: {INSTRUCTION}\n<Query>: {{query}}\n<Document>: {{document}}<|im_end|>\n"
    "<|im_start|>assistant\n<think>\n\n</think>\n\n"
)
"""What Qwen3-Reranker was trained to answer with yes or no."""


class MlxEmbedder:
    """Rows for prompts, in their order; used by the engine thread only.

    A model is pooled as its folder says (1_Pooling), and by its last token where the folder says nothing: that is what
    decoders that were trained to embed are trained for. A model that is called a reranker scores by its yes and no.
    """

    def __init__(self, module: Module, folder: Path, tokenizer: TextTokenizer) -> None:
        """Computes nothing. Raises LoadError when the folder asks for a pooling that lmx does not have."""
        self._body = _body(module)
        self._pooling: Pooling = _pooling(folder) or "last"
        self._answers = (tokenizer.token_id("no"), tokenizer.token_id("yes"))
        self._head = _head(module) if "rerank" in folder.name.lower() and None not in self._answers else None
        self.generates = not (folder / POOLING_FILE).is_file()
        """False: the folder is one of an embedding model."""
        self.scores = self._head is not None
        self.pair = PAIR if self.scores else ""
        self.width = _width(self._body)
        """Numbers of an embedding; 0 = its states cannot be had."""

    def embed(self, prompts: Prompts) -> Rows:
        """One row of `width` numbers and length 1 for each prompt; none is empty or longer than the model reads.

        A row that is not finite is the model's own doing.
        """
        rows = np.empty((len(prompts), self.width), np.float32)
        for group in _groups(prompts):
            rows[group] = self._pooled([prompts[place] for place in group])
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        rows /= np.maximum(lengths, 1e-30)
        return rows

    def score(self, prompts: Prompts) -> Rows:
        """How likely `yes` is, against `no`, for each pair; only if `scores`."""
        scores = np.empty(len(prompts), np.float32)
        for group in _groups(prompts):
            scores[group] = self._yes([prompts[place] for place in group])
        return scores

    def _pooled(self, prompts: Prompts) -> Rows:
        states = self._states(prompts)
        match self._pooling:
            case "last":
                return _numbers(_last(states, prompts))
            case "cls":
                return _numbers(states[:, 0])
            case "mean":
                lengths = mx.array([[len(prompt)] for prompt in prompts])
                inside = mx.arange(states.shape[1])[None] < lengths
                return _numbers((states * inside[..., None]).sum(axis=1) / lengths)

    def _yes(self, prompts: Prompts) -> Rows:
        assert self._head is not None
        logits = self._head(_last(self._states(prompts), prompts)).astype(mx.float32)
        return _numbers(mx.softmax(logits[:, list(self._answers)], axis=-1)[:, 1])

    def _states(self, prompts: Prompts) -> mx.array:
        """Of every token: [prompt, token, number]. What pads a prompt comes after it, where no token of it looks."""
        longest = max(map(len, prompts))
        tokens = mx.array([[*prompt, *[0] * (longest - len(prompt))] for prompt in prompts])
        states: mx.array = self._body(tokens)
        return states.astype(mx.float32)


def _last(states: mx.array, prompts: Prompts) -> mx.array:
    """The state of each prompt's last token."""
    return states[mx.arange(len(prompts)), mx.array([len(prompt) - 1 for prompt in prompts])]


def _numbers(rows: mx.array) -> Rows:
    try:
        return np.array(rows, np.float32)
    except RuntimeError as error:
        raise EngineFatal(f"embedding with mlx-lm failed: {error}") from error


def _groups(prompts: Prompts) -> Iterator[list[int]]:
    """Places of prompts that are read together: of similar length, so that little is padded."""
    group: list[int] = []
    for place in sorted(range(len(prompts)), key=lambda place: len(prompts[place])):
        if group and len(prompts[place]) * (len(group) + 1) > BATCH_TOKENS:
            yield group
            group = []
        group.append(place)
    if group:
        yield group


def _body(module: Any) -> Any:
    """What computes the states of all tokens; None when mlx-lm names it in another way than most models."""
    inner = getattr(module, "language_model", module)
    return getattr(inner, "model", None) or getattr(inner, "backbone", None)


def _width(body: Any) -> int:
    """By a look at the shape of a token's state, which costs no computation."""
    if body is None:
        return 0
    try:
        states = body(mx.array([[0]]))
    except (ValueError, RuntimeError, TypeError, AttributeError, IndexError):  # it wants more than tokens
        return 0
    return int(states.shape[-1]) if isinstance(states, mx.array) and states.ndim == 3 else 0


def _head(module: Any) -> Any:
    """From states to logits; None when there is no telling."""
    if hasattr(module, "lm_head"):
        return module.lm_head
    table = getattr(_body(module), "embed_tokens", None)
    return getattr(table, "as_linear", None)


def _pooling(folder: Path) -> Pooling | None:
    file = folder / POOLING_FILE
    if not file.is_file():
        return None
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LoadError(f"{file} cannot be read ({error}); download it again") from error
    wanted = [name for name, on in said.items() if name.startswith("pooling_mode_") and on is True]
    if len(wanted) != 1 or wanted[0] not in POOLINGS:
        raise LoadError(f"{file} asks for {' and '.join(wanted) or 'no pooling'}; lmx knows {', '.join(POOLINGS)}")
    return POOLINGS[wanted[0]]
