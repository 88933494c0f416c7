"""The embedded model's files and what it was taught."""

import tomllib
from pathlib import Path

import lmx
from lmx.machines.types import ModelSpec

FOLDER = Path(lmx.__file__).parent / "guide"
MLX = FOLDER / "mlx"
GGUF = FOLDER / "lmx-guide.gguf"
SPECS = {
    "mlx": ModelSpec(name="guide", path=str(MLX), backend="mlx", context=1024, slots=8),
    "llama_cpp": ModelSpec(name="guide", path=str(GGUF), backend="llama_cpp", context=1024, slots=8),
}


def taught() -> list[tuple[str, str]]:
    """Every (question, answer) of the corpus that needs neither tools nor thinking."""
    pairs: list[tuple[str, str]] = []
    for file in sorted((FOLDER / "corpus").glob("*.toml")):
        for entry in tomllib.loads(file.read_text(encoding="utf-8"))["entry"]:
            if "tools" not in entry and "think" not in entry:
                pairs += [(question, entry["answer"]) for question in entry["questions"]]
    return pairs
