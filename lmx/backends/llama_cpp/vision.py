"""Images through llama.cpp's mtmd: a projector file turns them into rows that stand in a prompt where tokens do."""

import ctypes
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from llama_cpp import mtmd_cpp as mtmd
from numpy.typing import NDArray

from lmx.backends.base import LoadError
from lmx.backends.llama_cpp.library import errors, lib
from lmx.backends.llama_cpp.model import Model, require_gguf
from lmx.backends.pictures import IMAGE_IDS, Picture, PictureError, Tile

KEPT_BYTES = 256 * 1024 * 1024
"""Of rows that may come again: every turn of a chat brings the same images."""
_log = lib.llama_log_callback(errors.receive)


class Eyes:
    """One model's projector. `look` may be called from any thread, one at a time."""

    def __init__(self, model: Model, path: str, threads: int) -> None:
        """Raises LoadError."""
        require_gguf(path)
        mtmd.mtmd_log_set(_log, None)
        mtmd.mtmd_helper_log_set(_log, None)
        params = mtmd.mtmd_context_params_default()
        params.n_threads = threads
        params.use_gpu = lib.llama_supports_gpu_offload()
        params.print_timings = False
        params.warmup = False
        errors.clear()
        self._context = mtmd.mtmd_init_from_file(os.fsencode(path), model.handle, params)
        if not self._context:
            raise LoadError(f"{path} is no projector for {model.path}: {errors.reason()}")
        self._width = lib.llama_model_n_embd_inp(model.handle)
        self._lock = threading.Lock()
        file = Path(path).stat()
        self._seal = f"{path} {file.st_size} {file.st_mtime_ns}".encode()
        self._known: OrderedDict[bytes, Picture] = OrderedDict()
        if problem := self._problem():
            self.close()
            raise LoadError(f"{path} {problem}")

    def look(self, image: bytes) -> Picture:
        """What stands for an image file (PNG, JPEG, BMP, GIF) in a prompt. Raises PictureError."""
        with self._lock:
            key = hashlib.sha256(self._seal + image).digest()
            picture = self._known.pop(key, None) or self._seen(image, key)
            self._known[key] = picture
            while sum(one.nbytes for one in self._known.values()) > KEPT_BYTES and len(self._known) > 1:
                self._known.popitem(last=False)
            return picture

    def close(self) -> None:
        mtmd.mtmd_free(self._context)

    def _problem(self) -> str:
        """Why this projector is of no use here; empty when it is."""
        if not mtmd.mtmd_support_vision(self._context):
            return "does not read images"
        if mtmd.mtmd_decode_use_mrope(self._context):
            return "belongs to a model whose positions have several dimensions (M-RoPE), which lmx does not compute"
        return ""

    def _seen(self, image: bytes, key: bytes) -> Picture:
        tokens: list[int] = []
        tiles: list[Tile] = []
        with self._chunks(image) as chunks:
            for index in range(mtmd.mtmd_input_chunks_size(chunks)):
                chunk = mtmd.mtmd_input_chunks_get(chunks, index)
                if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_TEXT:
                    tokens += _text(chunk)
                else:
                    tile = self._tile(chunk, _ids(key, len(tokens), mtmd.mtmd_input_chunk_get_n_tokens(chunk)))
                    tiles.append(tile)
                    tokens += tile.ids
        return Picture(tuple(tokens), tuple(tiles))

    @contextmanager
    def _chunks(self, image: bytes) -> Iterator[mtmd.mtmd_input_chunks_p]:
        """The image between the marks that the model puts around it."""
        data = (ctypes.c_uint8 * len(image)).from_buffer_copy(image)
        errors.clear()
        bitmap = mtmd.mtmd_helper_bitmap_init_from_buf(self._context, data, len(image), False)
        if not bitmap:
            raise PictureError("The image cannot be decoded: it is damaged, or of a kind that is not supported.")
        chunks = mtmd.mtmd_input_chunks_init()
        try:
            marker = mtmd.mtmd_get_marker(self._context) or mtmd.mtmd_default_marker()
            text = mtmd.mtmd_input_text(text=marker, text_len=len(marker), add_special=False, parse_special=True)
            bitmaps = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
            if mtmd.mtmd_tokenize(self._context, chunks, ctypes.byref(text), bitmaps, 1):
                raise PictureError(f"The image cannot be prepared for the model: {errors.reason()}.")
            yield chunks
        finally:
            mtmd.mtmd_input_chunks_free(chunks)
            mtmd.mtmd_bitmap_free(bitmap)

    def _tile(self, chunk: mtmd.mtmd_input_chunk_p, ids: tuple[int, ...]) -> Tile:
        if mtmd.mtmd_encode_chunk(self._context, chunk):
            raise PictureError(f"The projector failed on the image: {errors.reason()}.")
        found = mtmd.mtmd_get_output_embd(self._context)
        count = len(ids) * self._width
        rows = np.ctypeslib.as_array(ctypes.cast(found, ctypes.POINTER(ctypes.c_float)), (count,)).copy()
        if not np.isfinite(rows).all():
            raise PictureError("The projector gave numbers that are not finite for the image.")
        whole = mtmd.mtmd_decode_use_non_causal(self._context, chunk)
        return Tile(ids, rows.reshape(len(ids), self._width), whole=bool(whole))


def _text(chunk: mtmd.mtmd_input_chunk_p) -> list[int]:
    count = ctypes.c_size_t()
    tokens = mtmd.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
    return [int(tokens[place]) for place in range(count.value)]


def _ids(key: bytes, start: int, count: int) -> tuple[int, ...]:
    """Numbers that no token has: the same for the same image, so that a known prompt is known with its images."""
    stream = hashlib.shake_128(key + start.to_bytes(4, "little")).digest(4 * count)
    numbers: NDArray[np.uint32] = np.frombuffer(stream, np.uint32) % IMAGE_IDS
    return tuple(int(number) + IMAGE_IDS for number in numbers)
