"""What a model's settings change in the mlx backend: quantised KV, adapters, memory limits, and its key."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lmx.backends.base import Info, LoadError, Reuse, SeqSpec, Token
from lmx.backends.mlx import MlxBackend
from lmx.backends.mlx.imports import mx
from lmx.machines.types import Adapter, ModelSpec, Sampling
from tests.support import guide, mlx_models, models

GREEDY = Sampling(temperature=0)
QUESTION = "<|im_start|>user\nWhat is lmx?<|im_end|>\n<|im_start|>assistant\n"


@contextmanager
def opened(folder: Path, **settings: Any) -> Iterator[tuple[MlxBackend, Info]]:
    backend = MlxBackend()
    try:
        spec = ModelSpec(name="m", path=str(folder), backend="mlx", **({"context": 512, "slots": 4} | settings))
        yield backend, backend.load(spec, lambda _: True)
    finally:
        backend.close()


def says(backend: MlxBackend, prompt: list[int], count: int = 12, reuse: Reuse | None = None) -> list[int]:
    backend.add(SeqSpec(0, prompt, count, GREEDY, reuse=reuse))
    said = []
    while events := backend.step(64):
        said += [event.token for event in events if isinstance(event, Token)]
    backend.release(0)
    return said


def refusal(folder: Path, **settings: Any) -> str:
    with pytest.raises(LoadError) as caught, opened(folder, **settings):
        pass
    return str(caught.value)


# KV type


@pytest.mark.parametrize(("kv_type", "share"), [("q8_0", 0.3), ("q4_0", 0.2)])
def test_quantised_kv_takes_less_memory(kv_type: str, share: float) -> None:
    """One sequence at a time, in a fraction of float32's memory, and taken up again like any other."""
    with opened(guide.MLX) as (plain, _):
        prompt = plain.encode(QUESTION, special=True)
        usual = says(plain, prompt)
        plain.add(SeqSpec(0, prompt, 1, GREEDY))
        plain.step(64)
        whole = plain.snapshot(0)
        assert whole is not None
        full = whole.nbytes
    with opened(guide.MLX, kv_type=kv_type) as (backend, info):
        assert (info.slots, info.prefix) == (1, "trim")
        backend.add(SeqSpec(0, prompt, 1, GREEDY))
        backend.step(64)
        handle = backend.release(0, keep=True)
        assert handle is not None
        assert handle.nbytes < share * full
        known = Reuse(handle, len(prompt) - 1)
        said = says(backend, prompt)
        assert says(backend, prompt, reuse=known) == said
        data = memoryview(b"".join(backend.save(handle)))
        restored = backend.restore(data, handle.tokens)
        assert restored is not None
        assert says(backend, prompt, reuse=Reuse(restored, len(prompt) - 1)) == said
        if kv_type == "q8_0":
            assert said == usual


def test_kv_that_cannot_be_quantised_is_refused() -> None:
    """Windows and states have no such form, and heads must be a multiple of what shares a scale."""
    assert "RotatingKVCache" in refusal(mlx_models.mlx_folder("gemma3_text"), kv_type="q8_0")
    assert "heads of 16" in refusal(models.mlx_folder(), kv_type="q4_0")


# Adapters


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A LoRA of the tiny llama's query projections, as mlx-lm writes it."""
    mx.random.seed(3)
    lora = {"rank": 4, "scale": 2.0, "dropout": 0.0, "keys": ["self_attn.q_proj"]}
    config = {"fine_tune_type": "lora", "num_layers": models.LAYERS, "lora_parameters": lora}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    weights: dict[str, mx.array] = {}
    for layer in range(models.LAYERS):
        name = f"model.layers.{layer}.self_attn.q_proj"
        weights |= {
            f"{name}.lora_a": mx.random.normal((models.DIM, 4)),
            f"{name}.lora_b": mx.random.normal((4, models.DIM)),
        }
    mx.save_safetensors(str(tmp_path / "adapters.safetensors"), weights)
    return tmp_path


def test_an_adapter_changes_what_is_said(adapter: Path) -> None:
    """With scale 1 as the file says, with scale 0 not at all; dropout is for training only."""
    prompt = list(range(10, 40))
    said = {}
    for scale in (None, 0.0, 1.0, 0.5):
        adapters = () if scale is None else (Adapter(str(adapter), scale),)
        with opened(models.mlx_folder(), adapters=adapters) as (backend, info):
            said[scale] = says(backend, prompt), info.kv_key
            assert says(backend, prompt) == said[scale][0]
    assert said[None][0] == said[0.0][0]
    assert said[1.0][0] != said[None][0] != said[0.5][0]
    assert len({key for _, key in said.values()}) == len(said)


def test_an_adapter_that_does_not_fit_is_refused(adapter: Path, tmp_path: Path) -> None:
    """Of another model, with files missing, or several at once: a LoadError that says so."""
    one = Adapter(str(adapter))
    assert str(adapter) in refusal(guide.MLX, adapters=(one,))
    assert "one adapter, not 2" in refusal(models.mlx_folder(), adapters=(one, one))
    (adapter / "adapters.safetensors").unlink()
    assert "has no adapters.safetensors" in refusal(models.mlx_folder(), adapters=(one,))


# Memory


def test_limits_hold_while_the_model_is_loaded() -> None:
    """They are MLX's own, which belong to the process; close puts back what was there."""
    before = mx.set_memory_limit(2**40)
    mx.set_memory_limit(before)
    with opened(models.mlx_folder(), mlx_memory_limit=10**9, mlx_cache_limit=10**6):
        assert mx.get_memory_limit() == 10**9
        cache = mx.set_cache_limit(10**6)
        assert cache == 10**6
    assert mx.get_memory_limit() == before
    assert mx.set_cache_limit(10**7) > 10**6


def test_the_cache_limit_is_never_raised() -> None:
    """On a CPU MLX keeps little: the default of this setting must not change that."""
    before = mx.set_cache_limit(5 * 10**6)
    with opened(models.mlx_folder()):
        assert mx.set_cache_limit(5 * 10**6) == 5 * 10**6
    mx.set_cache_limit(before)


def test_trim_gives_back_what_is_held_for_speed() -> None:
    """Freed buffers are kept for the next ones until then."""
    with opened(models.mlx_folder()) as (backend, _):
        says(backend, list(range(10, 200)))
        held = backend.stats().memory.device_cache
        backend.trim()
        assert 0 == backend.stats().memory.device_cache < held


# Key


def test_the_key_names_what_computed_prompts_depend_on(tmp_path: Path) -> None:
    """The same for the same files elsewhere; another one for other weights and other KV types."""
    copy = Path(shutil.copytree(models.mlx_folder(), tmp_path / "copy"))
    with opened(models.mlx_folder()) as (_, first), opened(copy, context=100) as (_, second):
        assert first.kv_key == second.kv_key != ""
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    with opened(copy) as (_, changed), opened(guide.MLX) as (_, other), opened(guide.MLX, kv_type="q8_0") as (_, small):
        assert len({first.kv_key, changed.kv_key, other.kv_key, small.kv_key}) == 4
