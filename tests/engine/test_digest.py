"""The digest of a model's files."""

import os
from pathlib import Path

import pytest

from lmx.engine.digest import BLOCK, EDGE, SPREAD, digest
from lmx.machines.types import Adapter, ModelSpec

LARGE = 2 * EDGE + 4 * SPREAD * BLOCK


def spec(path: Path, *adapters: Path) -> ModelSpec:
    loras = tuple(Adapter(str(adapter)) for adapter in adapters)
    return ModelSpec(name="m", path=str(path), backend="llama_cpp", adapters=loras)


def write(path: Path, content: bytes | bytearray = b"x" * 100) -> Path:
    """With a time that does not change by itself."""
    path.write_bytes(content)
    os.utime(path, (1000, 1000))
    return path


def test_it_is_the_same_for_the_same_files_and_another_for_others(tmp_path: Path) -> None:
    """By content, size, time, name and adapters."""
    model, adapter = write(tmp_path / "a.gguf"), write(tmp_path / "lora.gguf")
    found = {digest(spec(model)), digest(spec(model)), digest(spec(model, adapter))}
    write(model, b"y" * 100)
    found.add(digest(spec(model)))
    write(model, b"x" * 101)
    found.add(digest(spec(model)))
    write(model)
    os.utime(model, (1000, 1001))
    found.add(digest(spec(model)))
    found.add(digest(spec(write(tmp_path / "b.gguf"))))
    assert len(found) == 6


def test_of_a_folder_all_that_a_model_is_made_of_counts(tmp_path: Path) -> None:
    """Weights, config, tokenizer and template; not what else lies there."""
    found = {digest(spec(tmp_path))}
    for name in ("model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja", "tokenizer.model"):
        write(tmp_path / name)
        found.add(digest(spec(tmp_path)))
    assert len(found) == 6
    write(tmp_path / "README.md")
    assert digest(spec(tmp_path)) in found


def test_of_a_model_in_parts_each_counts(tmp_path: Path) -> None:
    """The spec names the first one only."""
    first = write(tmp_path / "m-00001-of-00002.gguf")
    second = write(tmp_path / "m-00002-of-00002.gguf")
    before = digest(spec(first))
    write(second, b"y" * 100)
    assert digest(spec(first)) != before


@pytest.mark.parametrize(
    ("at", "seen"),
    [(0, True), (EDGE - 1, True), (EDGE, True), (EDGE + BLOCK, False), (LARGE - EDGE, True), (LARGE - 1, True)],
)
def test_of_a_large_file_samples_are_read(tmp_path: Path, at: int, seen: bool) -> None:
    """Both ends and some blocks in between: not the 40 GB of it."""
    content = bytearray(LARGE)
    before = digest(spec(write(tmp_path / "a.gguf", content)))
    content[at] = 1
    assert (digest(spec(write(tmp_path / "a.gguf", content))) != before) == seen


def test_a_small_file_is_read_once_and_whole(tmp_path: Path) -> None:
    """Also where it is shorter than both ends together."""
    for size in (0, 1, EDGE - 1, EDGE, EDGE + 1, 2 * EDGE + BLOCK):
        content = bytearray(size)
        before = digest(spec(write(tmp_path / "a.gguf", content)))
        for at in {0, size // 2, size - 1} if size else ():
            content[at] ^= 1
            assert digest(spec(write(tmp_path / "a.gguf", content))) != before, (size, at)
            content[at] ^= 1


def test_a_file_that_is_gone_counts_as_that(tmp_path: Path) -> None:
    """The model is loaded already: if it could do without the file, so can its digest."""
    missing = digest(spec(tmp_path / "a.gguf"))
    assert digest(spec(tmp_path / "b.gguf")) != missing
    assert digest(spec(write(tmp_path / "a.gguf"))) != missing


def test_a_model_without_files_has_one_too() -> None:
    """That of the fake backend."""
    assert digest(ModelSpec(name="m", path="", backend="fake"))
