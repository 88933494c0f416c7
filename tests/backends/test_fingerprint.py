"""Which file it is, told by parts of it."""

from pathlib import Path

import pytest

from lmx.backends.fingerprint import EDGE, fingerprint

SIZE = 24 * EDGE


@pytest.mark.parametrize("size", [0, 100, 3 * EDGE, SIZE])
def test_it_is_the_content_that_counts(tmp_path: Path, size: int) -> None:
    """A copy under another name is the same; a file of another length is not."""
    first, second, longer = (tmp_path / name for name in ("a", "b", "c"))
    for file, bytes_ in ((first, size), (second, size), (longer, size + 1)):
        file.write_bytes(b"\7" * bytes_)
    assert fingerprint(first) == fingerprint(second) != fingerprint(longer)


@pytest.mark.parametrize("place", [0, 5 * EDGE, 11 * EDGE, 17 * EDGE, SIZE - EDGE // 2])
def test_a_model_that_was_trained_further_is_another_one(tmp_path: Path, place: int) -> None:
    """Same length and header, and one layer in the middle with other numbers: what was computed with it differs."""
    file = tmp_path / "model"
    file.write_bytes(bytes(SIZE))
    before = fingerprint(file)
    with file.open("r+b") as changed:
        changed.seek(place)
        changed.write(b"\1" * (EDGE // 2))
    assert fingerprint(file) != before


def test_every_byte_of_a_small_file_counts(tmp_path: Path) -> None:
    """An adapter is small enough to be read as a whole."""
    file = tmp_path / "adapter"
    content = bytearray(3 * EDGE)
    file.write_bytes(content)
    before = fingerprint(file)
    content[EDGE + 12345] = 1
    file.write_bytes(content)
    assert fingerprint(file) != before
