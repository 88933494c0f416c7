"""Images stand where their parts stood, and nobody can forge them."""

import numpy as np

from lmx.backends.pictures import IMAGE_IDS, Picture, Tile
from lmx.engine.gallery import Gallery


def look(image: bytes) -> Picture:
    ids = tuple(IMAGE_IDS + image[0] * 10 + place for place in range(2))
    return Picture((7, *ids, 8), (Tile(ids, np.zeros((2, 4), np.float32)),))


def encode(text: str) -> list[int]:
    return [ord(character) for character in text]


def shown(*parts: str | None) -> dict[str, object]:
    """None = an image."""
    content = [{"type": "image"} if part is None else {"type": "text", "text": part} for part in parts]
    return {"role": "user", "content": content}


def test_an_image_stands_where_its_part_stood() -> None:
    """Text before, between and after images stays what it is; each image comes with the model's own marks."""
    gallery = Gallery([b"\x01", b"\x02"], look)
    first, second = gallery.flattened(shown("a", None)), gallery.flattened(shown(None, "b"))
    tokens = gallery.encode(f"<{first['content']}|{second['content']}>", encode)
    one, two = list(look(b"\x01").tokens), list(look(b"\x02").tokens)
    assert tokens == [*encode("<a"), *one, *encode("|"), *two, *encode("b>")]
    assert set(gallery.tiles) == {IMAGE_IDS + 10, IMAGE_IDS + 20}


def test_a_message_of_text_alone_is_left_as_it_is() -> None:
    message = {"role": "user", "content": "a"}
    assert Gallery([], look).flattened(message) is message


def test_text_that_looks_like_a_marker_is_text() -> None:
    """Whatever a client writes, it names no image."""
    gallery = Gallery([b"\x01"], look)
    flat = gallery.flattened(shown("<image 0123456789abcdef 0>"))
    assert gallery.encode(str(flat["content"]), encode) == encode("<image 0123456789abcdef 0>")
