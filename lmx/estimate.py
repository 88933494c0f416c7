"""What loading a model will take, judged by its files: weights, KV cache, a prompt's scratch space, known prompts."""

import json
import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from lmx import headers
from lmx.headers import HeaderError
from lmx.machines.types import KvType, ModelSpec

PROCESS = 200_000_000
"""Bytes of a worker process without its model: interpreter, library, buffers."""
UNKNOWN_KV = 0.25
"""Of the weights: the state of a model whose layers we cannot count."""
GGUF_CONTEXT_UNIT = 256
BYTES: Mapping[KvType, float] = {"f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}
HALVES = ("F16", "BF16")
PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


class EstimateError(Exception):
    """The model cannot be loaded as its files are; the message is one sentence."""


class Estimate(Struct, frozen=True, kw_only=True):
    """In bytes."""

    weights: int = 0
    kv: int = 0
    """Of all slots with full contexts."""
    prefill: int = 0
    """Scratch space of one prompt chunk."""
    cache: int = 0
    """For prompts that may come again, when so much was asked for: a budget that lmx chose gives way under pressure."""
    process: int = PROCESS
    kv_per_token: int = 0
    """0 = not known, or taken at load."""

    @property
    def total(self) -> int:
        return self.weights + self.kv + self.prefill + self.cache + self.process


class Shape(Struct, frozen=True, kw_only=True):
    """What of a model's layers decides about memory."""

    kv_values: int | None
    """Numbers that one token leaves in the KV cache; None = that is not how it remembers."""
    context: int
    width: int
    heads: int
    feed_forward: int


def estimate(spec: ModelSpec, *, widened: bool = sys.platform != "darwin") -> Estimate:
    """Reads the headers of the model's files; may hang where their disk does. Raises EstimateError.

    `widened`: MLX runs on a CPU, where it makes 32 bits out of 16.
    """
    if spec.backend == "fake":
        return Estimate(cache=spec.cache_bytes)
    try:
        whole = _gguf(spec) if spec.backend == "llama_cpp" else _mlx(spec, widened)
        extra = sum(_size(Path(adapter.path)) for adapter in spec.adapters)
        extra += _draft(spec, widened)
        extra += _size(Path(spec.mmproj)) if spec.mmproj else 0
    except HeaderError as error:
        raise EstimateError(f"{error}.") from error
    except FileNotFoundError as error:
        raise EstimateError(f"{error.filename} is missing: download the model again, or correct its path.") from error
    except OSError as error:
        where = error.filename or spec.path  # what fails while it is read has no name
        raise EstimateError(f"{where} cannot be read ({error.strerror}): check its disk.") from error
    except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise EstimateError(f"{spec.path} describes itself as no model does ({error}): download it again.") from error
    return Estimate(
        weights=whole.weights + extra,
        kv=whole.kv,
        prefill=whole.prefill,
        cache=spec.cache_bytes,
        kv_per_token=whole.kv_per_token,
    )


def parts(path: Path) -> list[Path]:
    """All files of a GGUF model, be it split or not; they need not exist."""
    match = PART.search(path.name)
    if match is None:
        return [path]
    stem, count = path.name[: match.start()], int(match[2])
    return [path.with_name(f"{stem}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]


def _draft(spec: ModelSpec, widened: bool) -> int:
    """The draft model has one sequence per slot too."""
    if not spec.draft or spec.speculation not in ("auto", "draft"):
        return 0
    bare = ModelSpec(name=spec.name, path=spec.draft, backend=spec.backend, context=spec.context, slots=spec.slots)
    drafts = _gguf(bare) if spec.backend == "llama_cpp" else _mlx(bare, widened)
    return drafts.weights + drafts.kv


def _gguf(spec: ModelSpec) -> Estimate:
    files = parts(Path(spec.path))
    weights = sum(file.stat().st_size for file in files)
    shape = _gguf_shape(headers.gguf(files[0]))
    context = min(spec.context, shape.context)
    cells = -(-context // GGUF_CONTEXT_UNIT) * GGUF_CONTEXT_UNIT * spec.slots
    values = shape.kv_values
    kv = weights * UNKNOWN_KV if values is None else values * BYTES[spec.kv_type] * cells
    return Estimate(weights=weights, kv=int(kv), prefill=_prefill(spec, shape))


def _mlx(spec: ModelSpec, widened: bool) -> Estimate:
    folder = Path(spec.path)
    shape = _mlx_shape(headers.config(folder))
    dtypes = [headers.safetensors(file) for file in _weight_files(folder)]
    weights = sum(sum(sizes.values()) for sizes in dtypes)
    if widened:
        weights += sum(sizes.get(half, 0) for sizes in dtypes for half in HALVES)
    values, tokens = shape.kv_values, min(spec.context, shape.context) * spec.slots
    each = 0 if values is None else math.ceil(values * BYTES[spec.kv_type])
    if widened and spec.kv_type == "f16":
        each *= 2
    kv = int(weights * UNKNOWN_KV) if values is None else each * tokens
    return Estimate(weights=weights, kv=kv, prefill=_prefill(spec, shape), kv_per_token=each)


def _weight_files(folder: Path) -> list[Path]:
    """Those that the index names, or all there are. Raises FileNotFoundError for one that is not there."""
    index = folder / "model.safetensors.index.json"
    named = {file.name for file in folder.glob("*.safetensors")}
    if index.is_file():
        try:
            named |= set(json.loads(index.read_bytes())["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise HeaderError(f"{index} is no index of weights: download it again") from error
    if not named:
        raise EstimateError(f"{folder} has no *.safetensors: give the folder of an mlx-lm model.")
    return [folder / name for name in sorted(named)]


def _gguf_shape(fields: Mapping[str, Any]) -> Shape:
    kind = fields.get("general.architecture", "")

    def most(name: str) -> int:
        return max(_per_layer(fields.get(f"{kind}.{name}")), default=0)

    return Shape(
        kv_values=_gguf_values(fields, str(kind)),
        context=most("context_length") or sys.maxsize,
        width=most("embedding_length"),
        heads=most("attention.head_count"),
        feed_forward=most("feed_forward_length"),
    )


def _gguf_values(fields: Mapping[str, Any], kind: str) -> int | None:
    def number(name: str) -> int:
        return max(_per_layer(fields.get(f"{kind}.{name}")), default=0)

    if fields.get(f"{kind}.attention.causal") is False or fields.get(f"{kind}.pooling_type"):
        return 0  # it writes no text, and remembers nothing from one to the next
    layers, heads = number("block_count"), number("attention.head_count")
    keepers = _per_layer(fields.get(f"{kind}.attention.head_count_kv")) or [heads]
    if not layers or not heads or not sum(keepers) or any(key.startswith(f"{kind}.ssm.") for key in fields):
        return None
    size = number("embedding_length") // heads
    each = (number("attention.key_length") or size) + (number("attention.value_length") or size)
    return each * (sum(keepers) if len(keepers) > 1 else keepers[0] * layers)


def _mlx_shape(config: Mapping[str, Any]) -> Shape:
    layers, width = _number(config, "num_hidden_layers"), _number(config, "hidden_size")
    heads = _number(config, "num_attention_heads")
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        layers = sum("attention" in str(kind) and "linear" not in str(kind) for kind in kinds)
    known = layers and heads and width and not any(key.startswith(("ssm_", "mamba_")) for key in config)
    each = (
        2 * (_number(config, "head_dim") or width // max(heads, 1)) * (_number(config, "num_key_value_heads") or heads)
    )
    return Shape(
        kv_values=each * layers if known else None,
        context=_number(config, "max_position_embeddings") or sys.maxsize,
        width=width,
        heads=heads,
        feed_forward=_number(config, "intermediate_size"),
    )


def _prefill(spec: ModelSpec, shape: Shape) -> int:
    """One chunk's activations, and its attention scores where they are written down (flash attention does not)."""
    chunk, context = max(spec.prefill_chunk, GGUF_CONTEXT_UNIT), min(spec.context, shape.context)
    flash = spec.flash_attention == "on" or spec.kv_type != "f16"
    scores = 0 if flash else shape.heads * context
    return 4 * chunk * (scores + 8 * shape.width + 3 * shape.feed_forward)


def _size(path: Path) -> int:
    """Of an adapter: a file, or a folder's weights."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.glob("*.safetensors"))
    return path.stat().st_size


def _number(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    return value if type(value) is int and value >= 0 else 0


def _per_layer(value: object) -> list[int]:
    """A number, or one for every layer; [] for anything else."""
    return [item for item in (value if isinstance(value, list) else [value]) if type(item) is int and item >= 0]
