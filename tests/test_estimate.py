"""What a load will take, judged by the model's files; and files that are not there, not whole, or do not answer."""

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lmx import headers
from lmx.actors.messages import model
from lmx.actors.timers import TimerThread
from lmx.backends.registry import open_backend
from lmx.estimate import PROCESS, Estimate, EstimateError, estimate, parts
from lmx.headers import HeaderError
from lmx.machines.types import Adapter, BackendName, ModelSpec
from lmx.scales import FileScales
from lmx.system import SystemClock, SystemMemory
from tests.support.inbox import Inbox
from tests.support.models import HEAD_DIM, KV_HEADS, LAYERS, TRAINED_CONTEXT, gguf_file, mlx_folder

VALUES = 2 * LAYERS * KV_HEADS * HEAD_DIM
"""Numbers in the KV cache for a token of the test llama."""


def gguf(path: Path | None = None, **fields: Any) -> ModelSpec:
    return ModelSpec(name="m", path=str(path or gguf_file()), backend="llama_cpp", **fields)


def mlx(path: Path | None = None, **fields: Any) -> ModelSpec:
    return ModelSpec(name="m", path=str(path or mlx_folder()), backend="mlx", **fields)


@pytest.mark.parametrize(
    ("fields", "tokens", "each"),
    [
        ({"context": 512, "slots": 4}, 512 * 4, 2.0),
        ({"context": 1, "slots": 1}, 256, 2.0),
        ({"context": 100_000, "slots": 2}, TRAINED_CONTEXT * 2, 2.0),
        ({"context": 512, "slots": 1, "kv_type": "q8_0"}, 512, 34 / 32),
        ({"context": 512, "slots": 1, "kv_type": "q4_0"}, 512, 18 / 32),
    ],
)
def test_the_kv_cache_is_counted_as_llama_cpp_takes_it(fields: dict[str, Any], tokens: int, each: float) -> None:
    """Layers x heads x their size x bytes x context x slots; the trained context is the most, 256 the unit."""
    assert estimate(gguf(**fields)).kv == int(VALUES * each * tokens)


@pytest.mark.parametrize("kind", ["llama", "lfm2"])
def test_it_is_what_the_backend_allocates(kind: str) -> None:
    """The worker's telemetry says the same, rounded as llama.cpp's log is; a hybrid's own state is small beside it."""
    spec = gguf(gguf_file(kind), context=1024, slots=8)
    backend = open_backend("llama_cpp")
    backend.load(spec, lambda _: True)
    try:
        measured = backend.stats().memory.kv
    finally:
        backend.close()
    assert measured == pytest.approx(estimate(spec).kv, rel=0.02)


def test_weights_are_the_files_with_adapters_and_the_draft_model() -> None:
    """Whatever is loaded beside the model counts; a draft model that is switched off does not."""
    size = gguf_file().stat().st_size
    assert estimate(gguf()).weights == size
    assert estimate(gguf(adapters=(Adapter(str(gguf_file())),))).weights == 2 * size
    both = estimate(gguf(draft=str(gguf_file()), context=512, slots=1))
    assert both.weights == 2 * size + VALUES * 2 * 512
    assert estimate(gguf(draft="/nowhere", speculation="off")).weights == size


def test_a_recurrent_model_is_estimated_by_its_size() -> None:
    """Its layers do not tell what it remembers."""
    assert estimate(gguf(gguf_file("mamba"))).kv == gguf_file("mamba").stat().st_size // 4


@pytest.mark.parametrize("kind", ["bert", "embedding", "reranker"])
def test_a_model_that_writes_no_text_keeps_none(kind: str) -> None:
    """No KV cache between two texts."""
    assert estimate(gguf(gguf_file(kind))).kv == 0


def test_mlx_on_a_cpu_makes_32_bits_of_16(tmp_path: Path) -> None:
    """Halves are widened when they are loaded, and the KV cache is as wide as they are then; the rest stays."""
    folder = mlx_copy(tmp_path, {"a": ("F16", 100), "b": ("BF16", 50), "c": ("U32", 400)})
    wide, narrow = estimate(mlx(folder), widened=True), estimate(mlx(folder), widened=False)
    assert (wide.weights, narrow.weights) == (700, 550)
    assert (wide.kv_per_token, narrow.kv_per_token) == (VALUES * 4, VALUES * 2)
    assert narrow.kv == VALUES * 2 * TRAINED_CONTEXT * 8


def test_hybrid_mlx_models_are_counted_by_their_attention(tmp_path: Path) -> None:
    """Only layers with attention have a KV cache; what cannot be counted is guessed by the weights."""
    folder = mlx_copy(tmp_path, {"a": ("U32", 4000)}, layer_types=["full_attention", "linear_attention"])
    assert estimate(mlx(folder), widened=False).kv_per_token == VALUES * 2 // LAYERS
    (folder / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    assert estimate(mlx(folder), widened=False) == Estimate(
        weights=4000, kv=1000, prefill=0, cache=0, kv_per_token=0, process=PROCESS
    )


def test_what_a_user_asks_for_prompts_is_counted() -> None:
    """A budget of known prompts is reserved when it was given; one that lmx chose gives way under pressure."""
    assert estimate(gguf(cache_bytes=10**9)).total - estimate(gguf()).total == 10**9
    assert estimate(ModelSpec(name="f", path="", backend="fake")).total == PROCESS


def test_every_part_of_a_split_model_counts(tmp_path: Path) -> None:
    """-00001-of-0000N: all N, and one that is missing is named."""
    for number in (1, 2, 3):
        shutil.copy(gguf_file(), tmp_path / f"big-0000{number}-of-00003.gguf")
    first = tmp_path / "big-00001-of-00003.gguf"
    assert [part.name[4:9] for part in parts(first)] == ["00001", "00002", "00003"]
    assert estimate(gguf(first)).weights == 3 * gguf_file().stat().st_size
    (tmp_path / "big-00002-of-00003.gguf").unlink()
    with pytest.raises(EstimateError, match=r"big-00002-of-00003.gguf is missing"):
        estimate(gguf(first))


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    """A dangling link, a folder without weights, and one whose index names more than there is."""
    (tmp_path / "dangling.gguf").symlink_to(tmp_path / "gone.gguf")
    with pytest.raises(EstimateError, match=r"dangling.gguf is missing: download"):
        estimate(gguf(tmp_path / "dangling.gguf"))
    folder = mlx_copy(tmp_path / "mlx", {"a": ("F16", 10)})
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "model-00002-of-00002.safetensors"}}))
    with pytest.raises(EstimateError, match=r"model-00002-of-00002.safetensors is missing"):
        estimate(mlx(folder))
    index.unlink()
    (folder / "model.safetensors").unlink()
    with pytest.raises(EstimateError, match=r"has no \*.safetensors"):
        estimate(mlx(folder))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", "[" * 100_000),
        ("config.json", '{"num_hidden_layers": %s, "hidden_size": 8, "num_attention_heads": 2}' % ("9" * 4000)),
        ("model.safetensors.index.json", '{"weight_map": {"a": 1}}'),
        ("model.safetensors.index.json", '{"weight_map": {"a": 1, "b": "x"}}'),
    ],
)
def test_what_no_model_says_of_itself_is_one_sentence(tmp_path: Path, name: str, text: str) -> None:
    """The thread that weighs lives on, and says what is wrong with which model."""
    folder = mlx_copy(tmp_path / "mlx", {"a": ("F16", 10)})
    (folder / name).write_text(text)
    with pytest.raises(EstimateError, match=f"{folder} describes itself as no model does .*: download it again"):
        estimate(mlx(folder))


def test_numbers_below_zero_are_none(tmp_path: Path) -> None:
    """No estimate is negative: it would let everything be loaded."""
    weighed = estimate(mlx(mlx_copy(tmp_path / "mlx", {"a": ("F16", 10)}, num_attention_heads=-2)))
    assert min(weighed.kv, weighed.prefill, weighed.kv_per_token) >= 0


def test_a_disk_that_breaks_while_it_is_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system names no file then; the model's path is known all the same."""

    def broken(_: Path) -> dict[str, Any]:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(headers, "gguf", broken)
    with pytest.raises(EstimateError, match=f"^{gguf_file()} cannot be read .*: check its disk"):
        estimate(gguf())


@pytest.mark.parametrize("size", [0, 3, 24, 100, 300])
def test_a_file_that_is_cut_off_in_its_header_is_named(tmp_path: Path, size: int) -> None:
    """Not a traceback but a sentence, for either format."""
    short = tmp_path / "short.gguf"
    short.write_bytes(gguf_file().read_bytes()[:size])
    with pytest.raises(EstimateError, match=r"short.gguf does not begin as a GGUF file: download it again\.$"):
        estimate(gguf(short))
    tensors = tmp_path / "model.safetensors"
    tensors.write_bytes((mlx_folder() / "model.safetensors").read_bytes()[:size])
    with pytest.raises(HeaderError, match="does not begin as a safetensors file"):
        headers.safetensors(tensors)


@pytest.mark.parametrize("byte", range(24, 400, 7))
def test_a_damaged_header_never_hangs_or_raises_anything_else(tmp_path: Path, byte: int) -> None:
    """Whatever stands there: fields, or a HeaderError."""
    content = bytearray(gguf_file().read_bytes())
    content[byte] ^= 0xFF
    (tmp_path / "bad.gguf").write_bytes(content)
    problem = ""
    try:
        estimate(gguf(tmp_path / "bad.gguf"))
    except EstimateError as error:
        problem = str(error)
    assert not problem or "bad.gguf does not begin as a GGUF file" in problem


@pytest.fixture
def timers() -> Iterator[TimerThread]:
    thread = TimerThread(SystemClock())
    thread.start()
    yield thread
    thread.stop()


def test_a_disk_that_hangs_holds_up_nobody(timers: TimerThread, tmp_path: Path) -> None:
    """A question returns at once and is answered by its deadline; when the disk is back, the latest one is answered."""
    pipe = tmp_path / "hangs.gguf"
    os.mkfifo(pipe)
    scales, told = FileScales(timers, SystemMemory(), seconds=0.2), Inbox[model.Message]()
    for ticket in (1, 2, 3):
        scales.weigh(gguf(pipe), ticket, told)
    late = told.wait(lambda messages: len(messages) == 3)
    assert [
        (one.ticket, "did not answer within 0.2 s" in one.problem) for one in late if isinstance(one, model.Weighed)
    ] == [(ticket, True) for ticket in (1, 2, 3)]
    deadline = time.monotonic() + 20
    while len(told.messages) < 4 and time.monotonic() < deadline:
        with suppress(OSError):  # nobody reads it just now
            os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
    answer = told.wait(lambda messages: len(messages) == 4)[-1]
    assert isinstance(answer, model.Weighed)
    assert (answer.ticket, "does not begin as a GGUF file" in answer.problem) == (3, True)


@pytest.mark.parametrize(("make", "backend"), [(gguf, "llama_cpp"), (mlx, "mlx")])
def test_what_is_weighed_is_told_once(timers: TimerThread, make: Any, backend: BackendName) -> None:
    """The estimate's sum, and what a token takes where it is taken token by token."""
    told = Inbox[model.Message]()
    FileScales(timers, SystemMemory()).weigh(make(), 7, told)
    expected = estimate(make())
    assert told.wait_for(model.Weighed) == model.Weighed(7, expected.total, expected.kv_per_token)
    assert bool(expected.kv_per_token) == (backend == "mlx")


def mlx_copy(folder: Path, tensors: dict[str, tuple[str, int]], **config: Any) -> Path:
    """The test llama's folder with headers of other weights."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(
        json.dumps({**json.loads((mlx_folder() / "config.json").read_text()), **config})
    )
    header, end = {}, 0
    for name, (dtype, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": [size], "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    return folder
