"""Tiny models with random weights, written once per test run: a Llama as GGUF and for mlx-lm, other kinds as GGUF."""

import functools
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

Weights = dict[str, NDArray[np.float32]]

END_OF_TEXT, IM_START, IM_END, THINK = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>"
CONTROL = (END_OF_TEXT, IM_START, IM_END)
MERGES = ("h e", "l l", "he ll", "hell o", "Ġ w", "o r", "Ġw or", "l d", "Ġwor ld")
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
POISON = 50
"""The token whose embedding is NaN in a poisoned model."""

TRAINED_CONTEXT, SHORT_CONTEXT = 1024, 256
LAYERS, DIM, FFN, HEADS, KV_HEADS = 2, 64, 128, 4, 2
HEAD_DIM = DIM // HEADS

_folder = tempfile.TemporaryDirectory(prefix="lmx-models-")


@functools.cache
def vocabulary() -> tuple[str, ...]:
    """Control tokens, one user-defined token, every byte (as GPT-2 spells it), and a few merges."""
    spelled = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = {byte: chr(byte) for byte in spelled}
    for rank, byte in enumerate(byte for byte in range(256) if byte not in symbols):
        symbols[byte] = chr(256 + rank)
    return (*CONTROL, THINK, *(symbols[byte] for byte in range(256)), *(merge.replace(" ", "") for merge in MERGES))


@functools.cache
def gguf_file(kind: str = "llama", *, poisoned: bool = False) -> Path:
    """A GGUF of `kind`: llama, mamba (recurrent), lfm2 (hybrid), embedding (a pooled llama), bert or reranker.

    Or longrope: a llama whose positions are turned by other factors in a context of more than SHORT_CONTEXT tokens.
    """
    path = Path(_folder.name) / f"{kind}{'-poisoned' * poisoned}.gguf"
    makers = {"llama": llama, "embedding": llama, "mamba": mamba, "lfm2": lfm2, "bert": bert, "reranker": reranker}
    weights = longrope() if kind == "longrope" else makers[kind]()
    if poisoned:
        weights["token_embd.weight"][POISON] = np.nan
    writer = gguf.GGUFWriter(str(path), {"embedding": "llama", "longrope": "llama", "reranker": "bert"}.get(kind, kind))
    _describe(writer, kind)
    for name, tensor in weights.items():
        writer.add_tensor(name, np.ascontiguousarray(tensor, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@functools.cache
def mlx_folder() -> Path:
    """The llama of `gguf_file`, weight for weight, as mlx-lm reads it."""
    folder = Path(_folder.name) / "mlx"
    folder.mkdir()
    end, start = vocabulary().index(IM_END), vocabulary().index(END_OF_TEXT)
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": DIM, "intermediate_size": FFN,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "vocab_size": len(vocabulary()),
        "max_position_embeddings": TRAINED_CONTEXT, "tie_word_embeddings": False,
        "eos_token_id": end, "bos_token_id": start,
    }  # fmt: skip
    tokenizer = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": END_OF_TEXT, "eos_token": IM_END,
        "pad_token": END_OF_TEXT, "chat_template": CHAT, "clean_up_tokenization_spaces": False,
    }  # fmt: skip
    save_file(
        {_hf_name(name): tensor for name, tensor in _llama_hf().items()},
        folder / "model.safetensors",
        {"format": "mlx"},
    )
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer.json").write_text(json.dumps(_tokenizer()))
    return folder


def llama() -> Weights:
    """GGUF wants the rotary halves of Q and K interleaved."""
    weights = _llama_hf()
    for layer in range(LAYERS):
        for name, heads in (("attn_q", HEADS), ("attn_k", KV_HEADS)):
            key = f"blk.{layer}.{name}.weight"
            halves = weights[key].reshape(heads, 2, HEAD_DIM // 2, DIM)
            weights[key] = halves.swapaxes(1, 2).reshape(heads * HEAD_DIM, DIM)
    return weights


def longrope() -> Weights:
    factors = {"rope_factors_short.weight": 1.0, "rope_factors_long.weight": 8.0}
    return llama() | {name: np.full(HEAD_DIM // 2, factor, np.float32) for name, factor in factors.items()}


def mamba(inner: int = 128, state: int = 8, rank: int = 4, kernel: int = 4) -> Weights:
    weights = _ends()
    for layer in range(LAYERS):
        weights |= _layer(layer, {
            "attn_norm.weight": (DIM,), "ssm_in.weight": (2 * inner, DIM), "ssm_conv1d.weight": (inner, kernel),
            "ssm_conv1d.bias": (inner,), "ssm_x.weight": (rank + 2 * state, inner), "ssm_dt.weight": (inner, rank),
            "ssm_dt.bias": (inner,), "ssm_d": (inner,), "ssm_out.weight": (DIM, inner),
        })  # fmt: skip
        weights[f"blk.{layer}.ssm_a"] = -np.tile(np.arange(1, state + 1, dtype=np.float32), (inner, 1))
    return weights


def lfm2(kernel: int = 3) -> Weights:
    """A short convolution in the first layer, attention in the second."""
    weights = _ends()
    weights["token_embd_norm.weight"] = weights.pop("output_norm.weight")
    convolution: dict[str, tuple[int, ...]] = {
        "shortconv.conv": (DIM, kernel),
        "shortconv.in_proj": (3 * DIM, DIM),
        "shortconv.out_proj": (DIM, DIM),
    }
    norms: dict[str, tuple[int, ...]] = {"attn_q_norm": (HEAD_DIM,), "attn_k_norm": (HEAD_DIM,)}
    for layer, mixer in enumerate((convolution, _attention() | norms)):
        shapes = mixer | _feed_forward() | {"attn_norm": (DIM,), "ffn_norm": (DIM,)}
        weights |= _layer(layer, {f"{name}.weight": shape for name, shape in shapes.items()})
    return weights


def bert() -> Weights:
    embeddings = {
        "token_embd.weight": (len(vocabulary()), DIM), "position_embd.weight": (TRAINED_CONTEXT, DIM),
        "token_types.weight": (2, DIM), "token_embd_norm.weight": (DIM,), "token_embd_norm.bias": (DIM,),
    }  # fmt: skip
    linear = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (DIM, DIM))
    linear |= {"ffn_up": (FFN, DIM), "ffn_down": (DIM, FFN)}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in linear.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name in ("attn_output_norm", "layer_output_norm"):
        shapes |= {f"{name}.weight": (DIM,), f"{name}.bias": (DIM,)}
    return {name: _random(name, shape) for name, shape in embeddings.items()} | _layer(0, shapes)


def reranker() -> Weights:
    """A bert with a head for one score."""
    head = {"cls.weight": (DIM, DIM), "cls.bias": (DIM,), "cls.output.weight": (1, DIM), "cls.output.bias": (1,)}
    return bert() | {name: _random(name, shape) for name, shape in head.items()}


def _llama_hf() -> Weights:
    """GGUF names, Hugging Face's order of Q and K."""
    weights = _ends()
    shapes = _attention() | _feed_forward() | {"attn_norm": (DIM,), "ffn_norm": (DIM,)}
    for layer in range(LAYERS):
        weights |= _layer(layer, {f"{name}.weight": shape for name, shape in shapes.items()})
    return weights


def _attention() -> dict[str, tuple[int, ...]]:
    narrow = (KV_HEADS * HEAD_DIM, DIM)
    return {"attn_q": (DIM, DIM), "attn_k": narrow, "attn_v": narrow, "attn_output": (DIM, DIM)}


def _feed_forward() -> dict[str, tuple[int, ...]]:
    return {"ffn_gate": (FFN, DIM), "ffn_up": (FFN, DIM), "ffn_down": (DIM, FFN)}


def _ends() -> Weights:
    shape = (len(vocabulary()), DIM)
    ends = {"token_embd.weight": shape, "output.weight": shape, "output_norm.weight": (DIM,)}
    return {name: _random(name, size) for name, size in ends.items()}


def _layer(layer: int, shapes: dict[str, tuple[int, ...]]) -> Weights:
    return {(name := f"blk.{layer}.{part}"): _random(name, shape) for part, shape in shapes.items()}


def _random(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The same numbers for the same name. Norms are 1; matrices are scaled so that activations keep their size."""
    if name.endswith("norm.weight"):
        return np.ones(shape, np.float32)
    random = np.random.default_rng(list(name.encode()))
    scale = 1 / math.sqrt(shape[-1]) if len(shape) > 1 else 0.1
    if name in ("token_embd.weight", "output.weight"):
        scale = 1.0
    return random.normal(0, scale, shape).astype(np.float32)


def _describe(writer: gguf.GGUFWriter, kind: str) -> None:
    writer.add_context_length(TRAINED_CONTEXT)
    writer.add_embedding_length(DIM)
    encodes = kind in ("bert", "reranker")
    writer.add_block_count(1 if encodes else LAYERS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_head_count(0 if kind == "mamba" else HEADS)
    writer.add_feed_forward_length(0 if kind == "mamba" else FFN)
    if kind in ("llama", "embedding", "longrope"):
        writer.add_head_count_kv(KV_HEADS)
        writer.add_rope_dimension_count(HEAD_DIM)
    if kind == "longrope":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE)
        writer.add_rope_scaling_orig_ctx_len(SHORT_CONTEXT)
    if kind == "mamba":
        writer.add_ssm_conv_kernel(4)
        writer.add_ssm_inner_size(128)
        writer.add_ssm_state_size(8)
        writer.add_ssm_time_step_rank(4)
    if kind == "lfm2":
        writer.add_head_count_kv([0, KV_HEADS])
        writer.add_shortconv_l_cache(3)
    if encodes:
        writer.add_layer_norm_eps(1e-12)
        writer.add_causal_attention(False)
        writer.add_token_type_count(2)
    if kind in ("bert", "embedding"):
        writer.add_pooling_type(gguf.PoolingType.MEAN)
    if kind == "reranker":
        writer.add_pooling_type(gguf.PoolingType.RANK)
    _describe_tokens(writer)


def _describe_tokens(writer: gguf.GGUFWriter) -> None:
    tokens = vocabulary()
    types = dict.fromkeys(CONTROL, gguf.TokenType.CONTROL) | {THINK: gguf.TokenType.USER_DEFINED}
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(list(tokens))
    writer.add_token_types([types.get(token, gguf.TokenType.NORMAL) for token in tokens])
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(tokens.index(END_OF_TEXT))
    writer.add_eos_token_id(tokens.index(IM_END))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT)


def _tokenizer() -> dict[str, Any]:
    """tokenizer.json of the same vocabulary."""
    added = [
        {"id": vocabulary().index(token), "content": token, "special": token in CONTROL, "single_word": False,
         "lstrip": False, "rstrip": False, "normalized": False}
        for token in (*CONTROL, THINK)
    ]  # fmt: skip
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                  "vocab": {token: index for index, token in enumerate(vocabulary())},
                  "merges": [merge.split(" ") for merge in MERGES]},
    }  # fmt: skip


def _hf_name(name: str) -> str:
    ends = {"token_embd": "model.embed_tokens", "output": "lm_head", "output_norm": "model.norm"}
    parts = {
        "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    }  # fmt: skip
    *block, part, suffix = name.split(".")
    return f"model.layers.{block[1]}.{parts[part]}.{suffix}" if block else f"{ends[part]}.{suffix}"
