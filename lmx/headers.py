"""What a model's files say about themselves in their first bytes. Reads no weights and no vocabulary."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
"""GGUF's value types with a fixed size, as `struct` formats."""
STRING, ARRAY = 8, 9
LONGEST = 4096
"""Items of an array that is read, and bytes of a key: what is longer is no number that we want, or no GGUF."""
FARTHEST = 2**40
HEADER_LIMIT = 100_000_000
"""Bytes of a safetensors header: the format's own limit."""


class HeaderError(Exception):
    """The file does not begin as its format says."""


def gguf(path: Path) -> dict[str, Any]:
    """The fields of a GGUF file up to its vocabulary, which the tools write last. Raises OSError and HeaderError."""
    with path.open("rb") as file:
        try:
            return _fields(file)
        except (struct.error, KeyError, UnicodeDecodeError) as error:
            raise HeaderError(f"{path} does not begin as a GGUF file: download it again") from error


def safetensors(path: Path) -> dict[str, int]:
    """Bytes of a safetensors file by dtype. Raises OSError and HeaderError."""
    sizes: dict[str, int] = {}
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(min(length, HEADER_LIMIT))
    try:
        for name, tensor in json.loads(text).items():
            if name != "__metadata__":
                start, end = tensor["data_offsets"]
                sizes[tensor["dtype"]] = sizes.get(tensor["dtype"], 0) + int(end) - int(start)
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise HeaderError(f"{path} does not begin as a safetensors file: download it again") from error
    return sizes


def config(folder: Path) -> Mapping[str, Any]:
    """config.json of an mlx-lm folder; of a model with several parts the one that writes text.

    Raises OSError and HeaderError.
    """
    file = folder / "config.json"
    try:
        content = json.loads(file.read_bytes())
    except ValueError as error:
        raise HeaderError(f"{file} is not JSON: download it again") from error
    if not isinstance(content, dict):
        raise HeaderError(f"{file} holds no JSON object: download it again")
    text = content.get("text_config")
    return {**content, **text} if isinstance(text, dict) else content


def _fields(file: BinaryIO) -> dict[str, Any]:
    """Raises struct.error at the end of the file, KeyError for a type that is none."""
    magic, _, _, count = struct.unpack("<4sIQQ", file.read(24))
    if magic != b"GGUF":
        raise struct.error("no GGUF")
    fields: dict[str, Any] = {}
    for _ in range(count):
        key = _string(file)
        if key.startswith("tokenizer."):
            break
        value = _value(file, *_unpack(file, "<I"))
        if value is not None:
            fields[key] = value
    return fields


def _value(file: BinaryIO, kind: int) -> Any:
    """None for a list of strings or a long one."""
    if kind == STRING:
        return _text(file)
    if kind != ARRAY:
        return _unpack(file, SCALARS[kind])[0]
    item, length = _unpack(file, "<IQ")
    if item == STRING:
        for _ in range(length):
            _skip(file, _unpack(file, "<Q")[0])
        return None
    form = SCALARS[item]
    if length > LONGEST:
        _skip(file, struct.calcsize(form) * length)
        return None
    return list(_unpack(file, f"<{length}{form[1]}"))


def _string(file: BinaryIO) -> str:
    (length,) = _unpack(file, "<Q")
    if length > LONGEST:
        raise struct.error("no key is so long")
    return file.read(length).decode()


def _text(file: BinaryIO) -> str:
    """A value's beginning: a chat template or a licence may be long."""
    (length,) = _unpack(file, "<Q")
    text = file.read(min(length, LONGEST))
    _skip(file, max(0, length - LONGEST))
    return text.decode(errors="replace")


def _skip(file: BinaryIO, size: int) -> None:
    if size > FARTHEST:
        raise struct.error("no header is so long")
    file.seek(size, 1)


def _unpack(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))
