"""Tiny mlx-lm models of other kinds than Llama, with random weights and the tokenizer of `tests.support.models`."""

import functools
import importlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from lmx.backends.mlx.imports import mx, tree_flatten
from tests.support import models

VOCAB, DIM = len(models.vocabulary()), 32

_folder = tempfile.TemporaryDirectory(prefix="lmx-mlx-models-")

LLAMA4_TEXT = {
    "attention_bias": False, "attention_chunk_size": 64, "head_dim": 16, "hidden_size": DIM,
    "interleave_moe_layer_step": 2, "intermediate_size": 64, "intermediate_size_mlp": 64,
    "max_position_embeddings": 1024, "model_type": "llama4_text", "num_attention_heads": 2,
    "num_experts_per_tok": 1, "num_hidden_layers": 4, "num_key_value_heads": 2, "num_local_experts": 2,
    "rms_norm_eps": 1e-5, "rope_scaling": None, "rope_theta": 10000.0, "use_qk_norm": True, "vocab_size": VOCAB,
}  # fmt: skip

CONFIGS: dict[str, dict[str, Any]] = {
    # Recurrent: no KV cache at all, and no longest context.
    "mamba": {
        "vocab_size": VOCAB, "hidden_size": DIM, "intermediate_size": 64, "state_size": 8, "num_hidden_layers": 2,
        "conv_kernel": 4, "use_bias": False, "use_conv_bias": True, "time_step_rank": 4,
    },
    # Hybrid: short convolutions, then attention.
    "lfm2": {
        "vocab_size": VOCAB, "hidden_size": DIM, "num_hidden_layers": 3, "num_attention_heads": 2,
        "num_key_value_heads": 2, "max_position_embeddings": 1024, "norm_eps": 1e-5, "conv_bias": False,
        "conv_L_cache": 3, "block_dim": DIM, "block_multiple_of": 32, "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": False, "block_ff_dim": 64, "layer_types": ["conv", "conv", "full_attention"],
    },
    # Sliding windows in three layers of four, far shorter than the prompts of the tests.
    "gemma3_text": {
        "vocab_size": VOCAB, "hidden_size": DIM, "num_hidden_layers": 4, "intermediate_size": 64,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "rms_norm_eps": 1e-5,
        "sliding_window": 16, "sliding_window_pattern": 4, "query_pre_attn_scalar": 16,
        "max_position_embeddings": 1024,
    },
    # Its chunked caches cannot be merged.
    "llama4": {"text_config": LLAMA4_TEXT},
}  # fmt: skip


@functools.cache
def mlx_folder(kind: str) -> Path:
    """A model folder of one of CONFIGS."""
    folder = Path(_folder.name) / kind
    shutil.copytree(models.mlx_folder(), folder, ignore=shutil.ignore_patterns("model.safetensors"))
    config = {"model_type": kind} | CONFIGS[kind]
    (folder / "config.json").write_text(json.dumps(config))
    module = importlib.import_module(f"mlx_lm.models.{kind}")
    mx.random.seed(0)
    parameters: Any = tree_flatten(module.Model(module.ModelArgs.from_dict(config)).parameters())
    weights = {
        name: mx.random.normal(array.shape, scale=0.3) if array.ndim > 1 else array for name, array in parameters
    }
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    return folder
