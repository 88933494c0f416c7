"""A projector of random weights for the embedded model, and images to look at, the same every time."""

import struct
import zlib
from pathlib import Path

import gguf
import numpy as np

WIDTH, INNER, LAYERS, SIDE, PATCH = 32, 64, 2, 28, 14
GUIDE_WIDTH = 256
"""Numbers of a token of the embedded model."""
TOKENS = (SIDE // PATCH) ** 2
"""That an image takes in a prompt."""


def write_projector(path: Path) -> Path:
    """A two-layer ViT with LLaVA's projector; its rows are large enough to change what the model says."""
    rng = np.random.default_rng(7)
    writer = gguf.GGUFWriter(str(path), "clip")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "mlp")
    writer.add_bool("clip.use_gelu", True)
    sizes = {"image_size": SIDE, "patch_size": PATCH, "embedding_length": WIDTH, "feed_forward_length": INNER}
    for name, size in {
        **sizes,
        "projection_dim": GUIDE_WIDTH,
        "block_count": LAYERS,
        "attention.head_count": 2,
    }.items():
        writer.add_uint32(f"clip.vision.{name}", size)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_array("clip.vision.image_mean", [0.5] * 3)
    writer.add_array("clip.vision.image_std", [0.5] * 3)
    for name, shape in _shapes().items():
        numbers = (
            np.ones(shape) if name.endswith(("ln1.weight", "ln2.weight", "ln.weight")) else rng.normal(0, 0.2, shape)
        )
        writer.add_tensor(name, numbers.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "v.patch_embd.weight": (WIDTH, 3, PATCH, PATCH),
        "v.class_embd": (WIDTH,),
        "v.position_embd.weight": (TOKENS + 1, WIDTH),
        **_layer("v.pre_ln", WIDTH),
    }
    for layer in range(LAYERS):
        block = f"v.blk.{layer}"
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            shapes |= _layer(f"{block}.{name}", WIDTH, WIDTH)
        shapes |= _layer(f"{block}.ln1", WIDTH) | _layer(f"{block}.ln2", WIDTH)
        shapes |= _layer(f"{block}.ffn_up", INNER, WIDTH) | _layer(f"{block}.ffn_down", WIDTH, INNER)
    return shapes | _layer("mm.0", GUIDE_WIDTH, WIDTH) | _layer("mm.2", GUIDE_WIDTH, GUIDE_WIDTH)


def _layer(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def png(seed: int, width: int = 40, height: int = 30) -> bytes:
    """Noise in colour."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width * 3), np.uint8)
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(lines)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
