"""What a ModelSpec settles for GGUF models: KV types, flash attention, layout, adapters; and what is told of them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

from lmx.backends.base import LoadError, SeqSpec
from lmx.machines.types import Adapter
from tests.support import models
from tests.support.adapters import adapter
from tests.support.contract import prompt
from tests.support.gguf_driver import GREEDY, Open, opening

TEXT = "<|im_start|>user\nWhat is lmx?<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture
def load() -> Iterator[Open]:
    with opening() as open_model:
        yield open_model


# KV


@pytest.mark.parametrize("kv_type", ["f16", "q8_0", "q4_0"])
def test_kv_types(load: Open, kv_type: str) -> None:
    """Each is taken, says something sensible, and needs less memory than the one before."""
    model = load(kv_type=kv_type)
    said = model.says(model.text(TEXT), 10)
    assert b"lmx" in b"".join(model.info.token_bytes[token] for token in said)
    halves = {"f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}
    numbers = 4 * 512 * 4 * 2 * 128  # slots, tokens, layers, K and V, 2 heads of 64
    assert model.backend.stats().memory.kv == pytest.approx(numbers * halves[kv_type], rel=0.02)


def test_a_quantised_cache_needs_flash_attention(load: Open) -> None:
    """Switched off, that is a LoadError which names both settings."""
    with pytest.raises(LoadError, match=r"kv_type q8_0 needs flash attention; set flash_attention to auto or on"):
        load(kv_type="q8_0", flash_attention="off")


def test_a_quantised_cache_that_the_model_cannot_have(load: Open) -> None:
    """Heads that are no multiple of a block of 32: a LoadError that speaks of the KV type."""
    with pytest.raises(LoadError, match="kv_type"):
        load(models.gguf_file(), kv_type="q8_0")


@pytest.mark.parametrize("changes", [{"flash_attention": "on"}, {"kv_layout": "unified"}, {"prefill_chunk": 64}])
def test_settings_of_speed_change_no_words(load: Open, changes: dict[str, object]) -> None:
    """Flash attention, the layout and the size of a batch are about time and memory only."""
    usual, other = load(), load(**changes)
    question = usual.text(TEXT)
    assert other.says(question, 30) == usual.says(question, 30)


def test_memory_is_told(load: Open) -> None:
    """stats tells the bytes of weights and KV, of recurrent states too."""
    memory = load(models.gguf_file("mamba")).backend.stats().memory
    assert memory.weights > 100_000
    assert memory.kv > 10_000


# Adapters


def test_adapters_weigh_in(load: Open, tmp_path: Path) -> None:
    """A LoRA changes what is said, at scale 0 it does not, and it is part of the key of computed prompts."""
    path = models.gguf_file()
    plain = load(path, context=256)
    none = load(path, context=256, adapters=(adapter(tmp_path / "a.gguf", 0.0),))
    full = load(path, context=256, adapters=(adapter(tmp_path / "a.gguf"), adapter(tmp_path / "b.gguf", 0.5)))
    said = [model.run(SeqSpec(1, prompt(30), 12, GREEDY))[1] for model in (plain, none, full)]
    assert said[0] == said[1]
    assert said[0] != said[2]
    assert len({model.info.kv_key for model in (plain, none, full)}) == 3


@pytest.mark.parametrize("kind", ["llama", "embedding"])
def test_adapters_weigh_in_on_embeddings(load: Open, tmp_path: Path, kind: str) -> None:
    """Of a model that writes and of one that only embeds: other numbers with a LoRA, the same ones at scale 0."""
    path = models.gguf_file(kind)
    rows = [
        load(path, context=256, adapters=adapters).backend.embed([prompt(30)])
        for adapters in ((), (adapter(tmp_path / "none.gguf", 0.0),), (adapter(tmp_path / "full.gguf"),))
    ]
    assert np.allclose(rows[0], rows[1], atol=1e-5)
    assert not np.allclose(rows[0], rows[2], atol=1e-2)


def test_an_embedding_model_refuses_adapters_that_do_not_fit(load: Open, tmp_path: Path) -> None:
    """They are loaded with it, and not passed over."""
    missing = Adapter(str(tmp_path / "missing.gguf"))
    with pytest.raises(LoadError, match=missing.path):
        load(models.gguf_file("embedding"), adapters=(missing,))


def test_adapters_that_do_not_fit_are_refused(load: Open, tmp_path: Path) -> None:
    """A missing file, a model instead of an adapter, and one for another model are LoadErrors with its path."""
    other = adapter(tmp_path / "other.gguf", width=models.DIM // 2)
    for bad in (Adapter(str(tmp_path / "none.gguf")), Adapter(str(models.gguf_file())), other):
        with pytest.raises(LoadError, match=bad.path):
            load(models.gguf_file(), adapters=(bad,))
