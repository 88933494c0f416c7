"""Models to measure with: random weights in the shapes of real ones, made on this machine, kept in ~/.cache/lmx/bench.

Speed does not depend on what the weights say, but what a model says decides what speculation can guess. So these say
something known: after a token comes the next one of a fixed circle through the vocabulary, whatever stands before it.
A text of theirs never repeats itself within a thousand tokens, one token is one chunk, and a prompt can be made that
holds exactly what they will say. The layers are random and computed in full; only their say in the result is small.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lmx.bench.wire import BenchError

Quant = Literal["f16", "q8_0", "q4_0"]
VERSION = "1"
"""Another one makes all models anew."""
CONTEXT = 8192
SEED = 7
QUIET = 0.05
"""How loud the layers' outputs are beside the embedding."""
CERTAINTY = 0.03
"""Scale of the output matrix: the next token of the circle gets about 0.9 at temperature 1."""

SHAPES = {  # layers, dim, ffn, heads, kv_heads, vocab
    "tiny": (4, 256, 704, 4, 2, 8192),
    "135m": (30, 576, 1536, 9, 3, 8192),
    "600m": (28, 1024, 3072, 16, 8, 16384),
}
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class BenchModel(NamedTuple):
    """One model in both formats; `circle` are its tokens in the order in which it says them."""

    folder: Path
    quant: Quant

    @property
    def gguf(self) -> Path:
        return self.folder / f"model-{self.quant}.gguf"

    @property
    def mlx(self) -> Path:
        return self.folder / "mlx"

    @property
    def circle(self) -> list[int]:
        tokens: list[int] = json.loads((self.folder / "circle.json").read_text())
        return tokens


def cached(shape: str, quant: Quant) -> BenchModel:
    """The model, made first if need be. Raises BenchError when what makes it is not installed."""
    model = BenchModel(home() / f"{shape}-{VERSION}", quant)
    if not (model.folder / "circle.json").exists():
        _make(model.folder, shape)
    if not model.gguf.exists():
        _quantize(model.folder / "model-f16.gguf", model.gguf, quant)
    return model


def home() -> Path:
    """The folder of everything that a run can use again."""
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "lmx" / "bench"


def _make(folder: Path, name: str) -> None:
    try:
        from lmx.bench import model_files as files
    except ImportError as error:
        raise BenchError(f"Making a model needs {error.name}: run scripts/bench, which sets it up.") from None
    layers, dim, ffn, heads, kv_heads, vocab = SHAPES[name]
    tokenizer = files.train_tokenizer(_texts(), vocab)
    vocab = len(tokenizer["model"]["vocab"])
    shape = files.LlamaShape(layers, dim, ffn, heads, kv_heads, vocab, CONTEXT, dim // heads, tied=False)
    circle = _circle(tokenizer["model"]["vocab"], {*files.CONTROL, *files.VISIBLE})
    weights = files.random_weights(shape, SEED)
    _teach(weights, circle)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files.write_gguf(folder / "model-f16.gguf", shape, weights, tokenizer, CHAT, name=f"bench-{name}", dtype="f16")
    files.write_mlx(folder / "mlx", shape, weights, tokenizer, CHAT, dtype="f32")
    (folder / "circle.json").write_text(json.dumps(circle))  # the last: it says that all is there


def _texts() -> Iterator[str]:
    """What there is to read on every machine: Python's own sources."""
    library = Path(sysconfig.get_paths()["stdlib"])
    for file in sorted(library.glob("*.py"))[:150]:
        yield file.read_text(errors="ignore")


def _circle(vocab: dict[str, int], aside: Collection[str]) -> list[int]:
    """The tokens that are whole pieces of plain text and not `aside`, in an order of no meaning."""
    import numpy as np

    plain = [piece for piece in vocab if piece.replace("Ġ", " ").replace("Ċ", "\n").isascii() and piece not in aside]
    return [int(token) for token in np.random.default_rng(SEED).permutation(sorted(vocab[piece] for piece in plain))]


def _teach(weights: dict[str, Any], circle: list[int]) -> None:
    """Turn the output matrix so that each token of the circle calls for the next; no other token is ever called for."""
    import numpy as np

    for name in weights:
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weights[name] *= QUIET
    embeddings = weights["model.embed_tokens.weight"]
    embeddings /= embeddings.std()
    head = np.zeros_like(embeddings)
    head[np.roll(circle, -1)] = CERTAINTY * embeddings[circle]
    weights["lm_head.weight"] = head


def _quantize(source: Path, target: Path, quant: Quant) -> None:
    """By llama.cpp itself, in a process of its own; the file gets its name when it is whole."""
    part = target.with_suffix(".part")
    command = [sys.executable, "-m", "lmx.bench.quantize", str(source), str(part), quant]
    if subprocess.run(command, check=False).returncode:
        raise BenchError(f"llama.cpp could not quantise {source}.")
    part.rename(target)
