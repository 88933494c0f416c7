"""Tiny LoRA adapters with random weights for the models of tests/support/models.py."""

from pathlib import Path

import gguf
import numpy as np

from lmx.machines.types import Adapter
from tests.support import models


def adapter(path: Path, scale: float = 1.0, *, width: int = models.DIM) -> Adapter:
    """A LoRA of rank 2 on the first layer's queries, as a GGUF file."""
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 2.0)
    writer.add_tensor("blk.0.attn_q.weight.lora_a", random.normal(0, 1, (2, width)).astype(np.float32))
    writer.add_tensor("blk.0.attn_q.weight.lora_b", random.normal(0, 1, (models.DIM, 2)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Adapter(str(path), scale)
