"""Embeddings and scores, of both libraries, on tiny models."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
from numpy.typing import NDArray

from lmx.backends.base import LoadError
from tests.support import models

Rows = NDArray[np.float32]
PROMPT_LENGTHS = (3, 50, 300, 1, 700, 20, 5, 5, 5, 5, 5, 5, 5)
"""More of them than are read together, and one longer than what is read at once."""
SAME = 1e-4
"""Neighbours in a batch change sums by rounding."""


class Embedder(Protocol):
    width: int
    scores: bool

    def embed(self, prompts: list[list[int]]) -> Rows: ...

    def score(self, prompts: list[list[int]]) -> Rows: ...


def prompts() -> list[list[int]]:
    return [
        [int(token) for token in np.random.default_rng([place, length]).integers(5, 250, length)]
        for place, length in enumerate(PROMPT_LENGTHS)
    ]


@contextmanager
def gguf_embedder(kind: str) -> Iterator[Embedder]:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    from lmx.backends.llama_cpp.embedding import LlamaEmbedder
    from lmx.backends.llama_cpp.model import Model

    model = Model(str(models.gguf_file(kind)), lambda _: True)
    embedder = LlamaEmbedder(model, threads=1)
    yield embedder
    embedder.close()
    model.close()


def mlx_embedder(folder: Path) -> Embedder:
    pytest.importorskip("mlx_lm", reason="mlx-lm is not installed")
    from lmx.backends.mlx.embedding import MlxEmbedder
    from lmx.backends.mlx.imports import load_model
    from lmx.backends.mlx.tokenizer import load_tokenizer

    return MlxEmbedder(load_model(folder, lazy=True)[0], folder, load_tokenizer(folder))


@pytest.fixture(params=["llama", "embedding", "bert", "mamba", "lfm2", "mlx"])
def embedder(request: pytest.FixtureRequest) -> Iterator[Embedder]:
    """A decoder, a pooled decoder, an encoder, a recurrent and a hybrid one as GGUF, and a decoder for mlx-lm."""
    if request.param == "mlx":
        yield mlx_embedder(models.mlx_folder())
    else:
        with gguf_embedder(request.param) as opened:
            yield opened


def test_a_batch_is_what_its_prompts_are_alone(embedder: Embedder) -> None:
    """A row of length 1 for each prompt, in their order, whatever else is read with it."""
    asked = prompts()
    together = embedder.embed(asked)
    assert together.dtype == np.float32
    assert together.shape == (len(asked), embedder.width)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-5)
    alone = np.concatenate([embedder.embed([prompt]) for prompt in asked])
    np.testing.assert_allclose(together, alone, atol=SAME)
    assert np.abs(together[0] - together[1]).max() > 0.01


def test_both_libraries_agree() -> None:
    """The same weights give the same embeddings as GGUF and for mlx-lm."""
    expected = mlx_embedder(models.mlx_folder()).embed(prompts())
    with gguf_embedder("llama") as gguf:
        np.testing.assert_allclose(gguf.embed(prompts()), expected, atol=1e-3)


def test_a_reranking_model_scores() -> None:
    """One number for each pair, the same alone and in a batch, and no embeddings."""
    with gguf_embedder("reranker") as ranker:
        assert (ranker.scores, ranker.width) == (True, 0)
        scores = ranker.score(prompts())
        alone = [ranker.score([prompt])[0] for prompt in prompts()]
    assert scores.shape == (len(PROMPT_LENGTHS),)
    assert len(set(scores.tolist())) > 5
    np.testing.assert_allclose(scores, alone, atol=SAME)


def test_a_reranker_of_mlx_lm_answers_yes_or_no(tmp_path: Path) -> None:
    """A decoder in a folder that is called so scores by its yes against its no; others do not score."""
    assert not mlx_embedder(models.mlx_folder()).scores
    folder = tmp_path / "tiny-reranker"
    shutil.copytree(models.mlx_folder(), folder)
    definition = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = definition["model"]["vocab"]
    for old, new in (("hello", "yes"), ("Ġworld", "no")):
        vocabulary[new] = vocabulary.pop(old)
    definition["model"]["merges"] = []
    (folder / "tokenizer.json").write_text(json.dumps(definition))
    ranker = mlx_embedder(folder)
    assert ranker.scores
    scores = ranker.score(prompts())
    assert ((scores >= 0) & (scores <= 1)).all()
    np.testing.assert_allclose(scores, [ranker.score([prompt])[0] for prompt in prompts()], atol=SAME)


@pytest.mark.parametrize("kind", ["mean", "cls", "lasttoken"])
def test_a_folder_says_how_it_is_pooled(tmp_path: Path, kind: str) -> None:
    """1_Pooling of sentence-transformers is followed, and such a model writes no text."""
    folder = tmp_path / "pooled"
    shutil.copytree(models.mlx_folder(), folder)
    (folder / "1_Pooling").mkdir()
    name = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}.get(kind, f"pooling_mode_{kind}")
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 64, name: True}))
    embedder = mlx_embedder(folder)
    assert not embedder.generates  # type: ignore[attr-defined]
    first, both = embedder.embed([[60], [60, 61]])
    assert np.allclose(first, both, atol=SAME) == (kind == "cls")
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(LoadError, match="asks for pooling_mode_max_tokens"):
        mlx_embedder(folder)


def test_pooling_by_mean_is_the_mean_of_all_tokens(tmp_path: Path) -> None:
    """Both libraries pool the same weights in the same way."""
    folder = tmp_path / "pooled"
    shutil.copytree(models.mlx_folder(), folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    with gguf_embedder("embedding") as gguf:
        np.testing.assert_allclose(gguf.embed(prompts()), mlx_embedder(folder).embed(prompts()), atol=2e-3)
