"""Which file it is, told by parts of it: reading all of a model takes minutes."""

import hashlib
from pathlib import Path

EDGE = 2**20
"""The first and the last bytes of a file, read whole: its header and some of its numbers."""
PIECES, PIECE = 256, 4096
"""And so many pieces spread evenly over it: a model that was trained further may differ in a few layers only."""


def fingerprint(path: Path) -> str:
    """The same for the same content, whatever the file is called."""
    size = path.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=16)
    with path.open("rb", buffering=0) as file:
        if size <= 2 * EDGE + PIECES * PIECE:
            digest.update(file.read())
            return digest.hexdigest()
        digest.update(file.read(EDGE))
        for at in range(PIECES):
            file.seek(EDGE + (size - 2 * EDGE) * at // PIECES)
            digest.update(file.read(PIECE))
        file.seek(size - EDGE)
        digest.update(file.read(EDGE))
    return digest.hexdigest()
