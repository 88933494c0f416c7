"""Images in a prompt: rows of numbers that stand where tokens do."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


class PictureError(Exception):
    """The image cannot be shown to the model; the sentence is for the client."""


IMAGE_IDS = 1 << 30
"""Numbers from here on stand for rows of an image in a prompt; no vocabulary is that large."""


@dataclass(frozen=True)
class Tile:
    """Rows that stand in a prompt where tokens do: one for each of `ids`, which are >= IMAGE_IDS.

    `whole`: each row sees all of them, so they must be computed together.
    """

    ids: tuple[int, ...]
    rows: NDArray[np.float32]
    whole: bool = False


@dataclass(frozen=True)
class Picture:
    """An image as a model reads it: `tokens` are its own marks, and between them the ids of `tiles`."""

    tokens: tuple[int, ...]
    tiles: tuple[Tile, ...]

    @property
    def nbytes(self) -> int:
        return sum(tile.rows.nbytes for tile in self.tiles)
