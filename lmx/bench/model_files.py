"""One set of Llama weights, written as GGUF (llama.cpp) and as an mlx-lm folder. Needs numpy and gguf, no torch.

Weights are a dict of arrays under their Hugging Face names. Both files tokenise alike: GGUF's
"gpt2" model with pre-tokeniser "gpt-2" is what Hugging Face calls ByteLevel(use_regex=True). Only `train_tokenizer`
needs `tokenizers`; whoever has no use for a new vocabulary can pass the JSON of `lmx/guide/mlx/tokenizer.json`.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np

Weights = dict[str, np.ndarray]
Dtype = Literal["f16", "f32"]

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
"""Tokens that never appear in an answer's text."""

VISIBLE = ("<tool_call>", "</tool_call>", "<think>", "</think>")
"""Single tokens that are text all the same."""

NUMPY = {"f16": np.float16, "f32": np.float32}
GGUF_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
GGUF_ENDS = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


@dataclass(frozen=True)
class LlamaShape:
    """The sizes of a Llama: RMSNorm (eps 1e-5), RoPE (theta 10000, half-split), SwiGLU, no biases."""

    layers: int
    dim: int
    ffn: int
    heads: int
    kv_heads: int
    vocab: int
    context: int
    head_dim: int
    tied: bool = True
    """The output matrix is that of the embeddings."""

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Every tensor's Hugging Face name and shape."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        yield "model.embed_tokens.weight", (self.vocab, self.dim)
        for i in range(self.layers):
            layer = f"model.layers.{i}"
            yield f"{layer}.input_layernorm.weight", (self.dim,)
            yield f"{layer}.self_attn.q_proj.weight", (q, self.dim)
            yield f"{layer}.self_attn.k_proj.weight", (kv, self.dim)
            yield f"{layer}.self_attn.v_proj.weight", (kv, self.dim)
            yield f"{layer}.self_attn.o_proj.weight", (self.dim, q)
            yield f"{layer}.post_attention_layernorm.weight", (self.dim,)
            yield f"{layer}.mlp.gate_proj.weight", (self.ffn, self.dim)
            yield f"{layer}.mlp.up_proj.weight", (self.ffn, self.dim)
            yield f"{layer}.mlp.down_proj.weight", (self.dim, self.ffn)
        yield "model.norm.weight", (self.dim,)
        if not self.tied:
            yield "lm_head.weight", (self.vocab, self.dim)

    @property
    def parameters(self) -> int:
        return sum(int(np.prod(size)) for _, size in self.tensors())


def random_weights(shape: LlamaShape, seed: int) -> Weights:
    """Weights that say nothing, the same for the same seed: norms are 1, the rest is normal with deviation 0.02."""
    rng = np.random.default_rng(seed)
    return {
        name: np.ones(size, np.float32) if len(size) == 1 else rng.normal(0, 0.02, size).astype(np.float32)
        for name, size in shape.tensors()
    }


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> dict[str, Any]:
    """A byte-level BPE as the content of a tokenizer.json. First come CONTROL and VISIBLE; every byte has a token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[*CONTROL, *VISIBLE],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    content: dict[str, Any] = json.loads(tokenizer.to_str())
    for token in content["added_tokens"]:
        token["special"] = token["content"] in CONTROL
    return content


def write_gguf(
    path: Path,
    shape: LlamaShape,
    weights: Weights,
    tokenizer_json: dict[str, Any],
    chat_template: str,
    *,
    name: str,
    dtype: Dtype,
) -> None:
    """Write one GGUF file that llama.cpp loads. Norms stay f32, as llama.cpp wants them."""
    writer = gguf.GGUFWriter(str(path), "llama")
    _gguf_shape(writer, shape)
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if dtype == "f16" else gguf.LlamaFileType.ALL_F32)
    _gguf_tokenizer(writer, tokenizer_json)
    writer.add_chat_template(chat_template)
    for key, value in weights.items():
        kind = np.float32 if value.ndim == 1 else NUMPY[dtype]
        writer.add_tensor(_gguf_name(key), np.ascontiguousarray(_interleaved(key, value, shape).astype(kind)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_mlx(
    folder: Path,
    shape: LlamaShape,
    weights: Weights,
    tokenizer_json: dict[str, Any],
    chat_template: str,
    *,
    dtype: Dtype,
) -> None:
    """Write a folder that mlx_lm.load (and transformers) understand. Creates the folder if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = {token["content"]: token["id"] for token in tokenizer_json["added_tokens"]}
    _write_safetensors(
        folder / "model.safetensors", {key: value.astype(NUMPY[dtype]) for key, value in weights.items()}
    )
    _write_json(folder / "config.json", _config(shape, ids, dtype))
    _write_json(folder / "tokenizer.json", tokenizer_json)
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(shape, chat_template))
    (folder / "chat_template.jinja").write_text(chat_template, encoding="utf-8")


def _gguf_shape(writer: gguf.GGUFWriter, shape: LlamaShape) -> None:
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.dim)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(shape.vocab)


def _gguf_tokenizer(writer: gguf.GGUFWriter, tokenizer_json: dict[str, Any]) -> None:
    model = tokenizer_json["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    kinds = dict.fromkeys(CONTROL, gguf.TokenType.CONTROL) | dict.fromkeys(VISIBLE, gguf.TokenType.USER_DEFINED)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([kinds.get(token, gguf.TokenType.NORMAL) for token in tokens])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(model["vocab"]["<|endoftext|>"])
    writer.add_eos_token_id(model["vocab"]["<|im_end|>"])
    writer.add_pad_token_id(model["vocab"]["<|endoftext|>"])
    writer.add_add_bos_token(False)


def _gguf_name(key: str) -> str:
    if not key.startswith("model.layers."):
        return GGUF_ENDS[key]
    _, _, layer, part = key.removesuffix(".weight").split(".", 3)
    return f"blk.{layer}.{GGUF_NAMES[part]}.weight"


def _interleaved(key: str, value: np.ndarray, shape: LlamaShape) -> np.ndarray:
    """llama.cpp rotates neighbouring pairs where Hugging Face rotates halves: reorder the rows of q and k."""
    heads = {"q_proj": shape.heads, "k_proj": shape.kv_heads}.get(key.split(".")[-2])
    if heads is None:
        return value
    return value.reshape(heads, 2, shape.head_dim // 2, value.shape[1]).swapaxes(1, 2).reshape(value.shape)


def _config(shape: LlamaShape, ids: dict[str, int], dtype: Dtype) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": shape.dim,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "vocab_size": shape.vocab,
        "max_position_embeddings": shape.context,
        "tie_word_embeddings": shape.tied,
        "attention_bias": False,
        "mlp_bias": False,
        "hidden_act": "silu",
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
        "torch_dtype": {"f16": "float16", "f32": "float32"}[dtype],
    }


def _tokenizer_config(shape: LlamaShape, chat_template: str) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|endoftext|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": shape.context,
        "chat_template": chat_template,
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_safetensors(path: Path, weights: Weights) -> None:
    """The safetensors format: the header's length, the header (padded to 8 bytes), then array after array."""
    header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    end = 0
    for key, value in weights.items():
        begin, end = end, end + value.nbytes
        kind = {"float16": "F16", "float32": "F32"}[value.dtype.name]
        header[key] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for value in weights.values():
            file.write(np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<")).tobytes())
