"""What the mlx backend makes of a model folder: what it refuses, what it reads from it, what that costs."""

import gc
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from lmx.backends.base import Info, LoadAborted, LoadError, SeqSpec, Token
from lmx.backends.mlx import MlxBackend
from lmx.backends.mlx.imports import mx, tree_flatten
from lmx.machines.types import ModelSpec
from tests.support import mlx_models, models

WEIGHTS = "model.safetensors"
Weights = dict[str, NDArray[Any]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder of the test's own."""
    return Path(shutil.copytree(models.mlx_folder(), tmp_path / "tiny"))


def load(folder: Path, progress: Callable[[float], bool] = lambda _: True, **settings: Any) -> Info:
    backend = MlxBackend()
    try:
        return backend.load(ModelSpec(name="tiny", path=str(folder), backend="mlx", **settings), progress)
    finally:
        backend.close()


def edit(file: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None removes one."""
    content = (json.loads(file.read_text()) if file.exists() else {}) | changes
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def rewrite(folder: Path, change: Callable[[Weights], Weights]) -> None:
    weights = change(load_file(folder / WEIGHTS))
    save_file({name: np.ascontiguousarray(array) for name, array in weights.items()}, folder / WEIGHTS)


# What is refused


def cut(folder: Path, size: int) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:size])


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "does not exist"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "no config.json"),
    "config is no JSON": (lambda folder: (folder / "config.json").write_text("{"), "config.json cannot be read"),
    "config is a list": (lambda folder: (folder / "config.json").write_text("[]"), "holds no JSON object"),
    "unknown kind": (lambda folder: edit(folder / "config.json", model_type="bert"), "model_type bert"),
    "kind not told": (lambda folder: edit(folder / "config.json", model_type=None), "model_type None"),
    "sizes not told": (lambda folder: edit(folder / "config.json", hidden_size=None), "hidden_size"),
    "code of its own": (lambda folder: edit(folder / "config.json", model_file="evil.py"), "evil.py"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "has no model"),
    "empty weights": (lambda folder: cut(folder, 0), "no safetensors file"),
    "cut in the header": (lambda folder: cut(folder, 50), "is cut off: 50 of"),
    "cut in the middle": (lambda folder: cut(folder, 50_000), "is cut off: 50000 of"),
    "not safetensors": (lambda folder: (folder / WEIGHTS).write_text("<html>" * 99), "no safetensors file"),
    "a part is missing": (
        lambda folder: edit(folder / f"{WEIGHTS}.index.json", weight_map={"a": WEIGHTS, "b": "model-2.safetensors"}),
        "lacks model-2.safetensors",
    ),
    "other sizes": (lambda folder: edit(folder / "config.json", vocab_size=7), "embed_tokens"),
    "a tensor is missing": (
        lambda folder: rewrite(folder, lambda weights: {n: a for n, a in weights.items() if n != "model.norm.weight"}),
        "model.norm.weight",
    ),
    "a tensor too many": (
        lambda folder: rewrite(folder, lambda weights: weights | {"more": np.zeros(3, np.float32)}),
        "more",
    ),
    "bad tokenizer": (lambda folder: (folder / "tokenizer.json").write_text("{"), "tokenizer.json"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_folder_is_refused(folder: Path, damage: str) -> None:
    """Whatever is wrong with the files is a LoadError of one line: which file, what fault, what to do."""
    spoil, reason = DAMAGE[damage]
    spoil(folder)
    with pytest.raises(LoadError, match=reason) as caught:
        load(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert "; " in message
    assert "\n" not in message


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_a_load_can_be_aborted_at_any_report(folder: Path, fraction: float) -> None:
    """False ends the load, be it before the first byte is read or after the last one."""
    with pytest.raises(LoadAborted):
        load(folder, lambda done: done < fraction)


def test_close_gives_the_memory_back() -> None:
    """After close nothing of the model is left; a second close, or one without a model, does nothing."""
    gc.collect()
    before = mx.get_active_memory()
    backend = MlxBackend()
    backend.load(ModelSpec(name="tiny", path=str(models.mlx_folder()), backend="mlx"), lambda _: True)
    backend.warm_up()
    assert mx.get_active_memory() > before
    backend.close()
    assert mx.get_active_memory() <= before
    backend.close()
    MlxBackend().close()


# What is read


def test_end_tokens_come_from_every_file(folder: Path) -> None:
    """config.json, generation_config.json and the tokenizer may each name others; all of them end a text."""
    edit(folder / "config.json", eos_token_id=[5, 6])
    edit(folder / "generation_config.json", eos_token_id=7)
    edit(folder / "tokenizer_config.json", eos_token={"content": models.END_OF_TEXT, "special": True})
    info = load(folder)
    assert info.eos == {5, 6, 7, models.vocabulary().index(models.END_OF_TEXT)}
    assert info.eos_text == models.END_OF_TEXT


def test_end_tokens_of_a_nested_config(folder: Path) -> None:
    """Models that also see or hear keep their text settings one level deeper."""
    edit(folder / "config.json", eos_token_id=None, text_config={"eos_token_id": 9}, max_position_embeddings=None)
    edit(folder / "tokenizer_config.json", eos_token=None)
    assert load(folder, context=77).eos == {9}


def test_named_chat_templates(folder: Path) -> None:
    """Of several named templates the default one is taken."""
    named = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    edit(folder / "tokenizer_config.json", chat_template=named)
    assert load(folder).chat_template == "D"


def test_a_chat_template_in_a_file_of_its_own(folder: Path) -> None:
    """chat_template.jinja goes before the one in the tokenizer's settings."""
    (folder / "chat_template.jinja").write_text("J")
    assert load(folder).chat_template == "J"


def test_no_chat_template(folder: Path) -> None:
    """A base model has none, and no settings of its tokenizer either."""
    (folder / "tokenizer_config.json").unlink()
    info = load(folder)
    assert (info.chat_template, info.bos_text, info.eos_text) == (None, "", "")


def test_a_model_without_a_longest_context() -> None:
    """A recurrent model names none: the context is the one asked for."""
    assert load(mlx_models.mlx_folder("mamba"), context=777_777).context == 777_777


def test_a_padded_vocabulary(folder: Path) -> None:
    """Logits may be wider than the tokenizer: the vocabulary is that of the logits, and padding adds no text."""
    size = len(models.vocabulary())
    edit(folder / "config.json", vocab_size=size + 5)
    rewrite(folder, lambda weights: {
        name: np.pad(array, ((0, 5), (0, 0))) if array.shape[0] == size else array for name, array in weights.items()
    })  # fmt: skip
    info = load(folder)
    assert info.vocab == size + 5
    assert list(info.token_bytes[-5:]) == [b""] * 5


# What is loaded


@pytest.mark.skipif(mx.default_device() != mx.cpu, reason="a GPU computes in half precision")
def test_half_precision_becomes_single_on_a_cpu(folder: Path) -> None:
    """A CPU emulates half precision, slowly: the weights take twice the memory, and the size reported says so."""
    whole = load(folder).weights_bytes
    rewrite(folder, lambda weights: {name: array.astype(np.float16) for name, array in weights.items()})
    assert load(folder).weights_bytes == whole


@pytest.mark.skipif(mx.default_device() != mx.cpu, reason="a GPU computes in half precision")
def test_quantised_weights_stay_quantised(folder: Path) -> None:
    """Only what is half precision is cast: packed integers are not, their scales are."""
    quantise(folder)
    backend = MlxBackend()
    info = backend.load(ModelSpec(name="tiny", path=str(folder), backend="mlx", slots=2), lambda _: True)
    leaves: Any = tree_flatten(backend._model.module.parameters())  # type: ignore[no-untyped-call]
    assert {array.dtype for name, array in leaves} == {mx.uint32, mx.float32}
    assert info.weights_bytes < (models.mlx_folder() / WEIGHTS).stat().st_size / 4
    backend.add(SeqSpec(0, [10, 20, 30], 3))
    events = [event for _ in range(9) for event in backend.step(64)]
    assert len([event for event in events if isinstance(event, Token)]) == 3
    backend.close()


def quantise(folder: Path) -> None:
    """Make the folder's model one of 4 bits with float16 scales."""
    weights: dict[str, mx.array] = {}
    for name, array in load_file(folder / WEIGHTS).items():
        stem = name.removesuffix(".weight")
        if array.ndim < 2:
            weights[name] = mx.array(array, mx.float16)
        else:
            packed, scales, biases = mx.quantize(mx.array(array, mx.float16), group_size=32, bits=4)
            weights |= {name: packed, f"{stem}.scales": scales, f"{stem}.biases": biases}
    mx.save_safetensors(str(folder / WEIGHTS), weights, metadata={"format": "mlx"})
    edit(folder / "config.json", quantization={"group_size": 32, "bits": 4})


# What it costs

FRESH_PROCESS = """
import resource, sys
before = resource.getrlimit(resource.RLIMIT_NOFILE), resource.setrlimit
from lmx.backends.mlx import MlxBackend
from lmx.machines.types import ModelSpec
backend = MlxBackend()
backend.load(ModelSpec(name="tiny", path=sys.argv[1], backend="mlx"), lambda _: True)
backend.warm_up()
assert "transformers" not in sys.modules and "huggingface_hub" not in sys.modules
assert (resource.getrlimit(resource.RLIMIT_NOFILE), resource.setrlimit) == before
from huggingface_hub import snapshot_download
assert snapshot_download.__module__.startswith("huggingface_hub")
"""


def test_loading_imports_nothing_heavy_and_changes_no_limits() -> None:
    """transformers costs seconds and is not imported; nobody sees its stand-in later; open files are not limited."""
    subprocess.run([sys.executable, "-c", FRESH_PROCESS, str(models.mlx_folder())], check=True)
