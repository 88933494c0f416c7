"""One computed prompt as a file: a header that says what it is, then the payload, both with a checksum."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from struct import Struct
from zlib import crc32

import numpy as np

from lmx.engine.radix import Array

SUFFIX, TEMPORARY = ".kv", ".part"
MAGIC = b"lmx-kv\n\x01"
"""The last byte is the format's version."""
_FIXED = Struct("<8sIIQII")
"""Magic, bytes of kv_key, number of tokens, bytes of payload, checksum of the payload, checksum of the header."""


class KvFileError(Exception):
    """It is not, or no longer, what was written."""


@dataclass(frozen=True)
class Header:
    kv_key: str
    tokens: Array
    payload: int
    checksum: int = 0

    @property
    def nbytes(self) -> int:
        return _FIXED.size + len(self.kv_key.encode()) + 4 * len(self.tokens)

    def pack(self, checksum: int) -> bytes:
        key, tokens = self.kv_key.encode(), self.tokens.astype("<i4").tobytes()
        fixed = (MAGIC, len(key), len(self.tokens), self.payload, checksum)
        own = crc32(tokens, crc32(key, crc32(_FIXED.pack(*fixed, 0))))
        return _FIXED.pack(*fixed, own) + key + tokens


def digest(data: bytes, length: int) -> str:
    return hashlib.sha256(data).hexdigest()[:length]


def as_key(tokens: Array) -> str:
    return digest(tokens.astype("<i4").tobytes(), 32)


def write_file(path: Path, header: Header, chunks: Sequence[memoryview], now: float) -> None:
    """All or nothing, also when the power fails: a temporary file, synced, then renamed."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.stem}.{os.getpid()}{TEMPORARY}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb", buffering=0) as file:
            _write_all(file.fileno(), [header.pack(0)])
            checksum = _write_all(file.fileno(), chunks)
            file.seek(0)
            _write_all(file.fileno(), [header.pack(checksum)])
            os.fsync(file.fileno())
        os.utime(temporary, (now, now))
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _write_all(file: int, chunks: Iterable[memoryview | bytes]) -> int:
    """Every byte, however the system cuts them up; their checksum."""
    checksum = 0
    for chunk in chunks:
        left = memoryview(chunk).cast("B")
        checksum = crc32(left, checksum)
        while left:
            left = left[os.write(file, left) :]
    return checksum


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_header(path: Path, kv_key: str) -> Header:
    """Raises KvFileError when it is damaged or of another model, OSError when it cannot be read."""
    with path.open("rb") as file:
        fixed = file.read(_FIXED.size)
        if len(fixed) < _FIXED.size or not fixed.startswith(MAGIC):
            raise KvFileError("It has no header of this version.")
        _, key_size, count, payload, checksum, own = _FIXED.unpack(fixed)
        size = os.fstat(file.fileno()).st_size
        if size != _FIXED.size + key_size + 4 * count + payload:
            raise KvFileError("It has another length than its header says.")
        key, tokens = file.read(key_size), file.read(4 * count)
    if crc32(tokens, crc32(key, crc32(fixed[:-4] + bytes(4)))) != own:
        raise KvFileError("Its header is damaged.")
    if key != kv_key.encode():
        raise KvFileError("It belongs to another model.")
    return Header(kv_key, np.frombuffer(tokens, "<i4").astype(np.int32), payload, checksum)


def read_payload(path: Path, kv_key: str) -> memoryview:
    """The payload, mapped: valid as long as it is held, also when the file is deleted meanwhile."""
    header = read_header(path, kv_key)
    with path.open("rb") as file:
        mapped = memoryview(mmap(file.fileno(), 0, access=ACCESS_READ))
    payload = mapped[header.nbytes :]
    if len(payload) != header.payload or crc32(payload) != header.checksum:
        raise KvFileError("Its payload is damaged.")
    return payload
