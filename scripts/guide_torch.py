"""lmx-guide's network and optimiser in plain PyTorch, with Hugging Face names. Needs torch; train_guide.py uses it."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention, silu

from lmx.bench.model_files import LlamaShape

THETA = 10000.0
EPS = 1e-5


class Attention(nn.Module):
    """Grouped-query attention with rotary positions (half-split)."""

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.shape = shape
        q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.dim, q, bias=False)
        self.k_proj = nn.Linear(shape.dim, kv, bias=False)
        self.v_proj = nn.Linear(shape.dim, kv, bias=False)
        self.o_proj = nn.Linear(q, shape.dim, bias=False)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], seen: Tensor) -> Tensor:
        def split(y: Tensor) -> Tensor:
            return y.view(*x.shape[:2], -1, self.shape.head_dim).transpose(1, 2)

        q, k, v = split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x))
        group = self.shape.heads // self.shape.kv_heads
        k, v = rotate(k, turn).repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        out = scaled_dot_product_attention(rotate(q, turn), k, v, attn_mask=seen)
        return self.o_proj(out.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """SwiGLU."""

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.dim, shape.ffn, bias=False)
        self.up_proj = nn.Linear(shape.dim, shape.ffn, bias=False)
        self.down_proj = nn.Linear(shape.ffn, shape.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(shape.dim, EPS)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = nn.RMSNorm(shape.dim, EPS)
        self.mlp = Mlp(shape)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], seen: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), turn, seen)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """Returns the last hidden states; `logits` turns those that matter into scores (tied embeddings)."""

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab, shape.dim)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.dim, EPS)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=0.02 if "o_proj" not in name and "down_proj" not in name else 0.005)
        pace = THETA ** -(torch.arange(0, shape.head_dim, 2) / shape.head_dim)
        angle = torch.outer(torch.arange(shape.context), pace).repeat(1, 2)
        self.turn = angle.cos(), angle.sin()

    def forward(self, ids: Tensor, seen: Tensor) -> Tensor:
        x = self.embed_tokens(ids)
        turn = self.turn[0][: ids.shape[1]], self.turn[1][: ids.shape[1]]
        for layer in self.layers:
            x = layer(x, turn, seen)
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        return linear(hidden, self.embed_tokens.weight)


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal (Newton-Schulz): matrices learn several times faster than with Adam."""

    def __init__(self, matrices: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.0) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            by_size: dict[torch.Size, list[nn.Parameter]] = {}
            for weight in group["params"]:
                by_size.setdefault(weight.shape, []).append(weight)
            for weights in by_size.values():
                self._move(weights, group["lr"], group["momentum"], group["decay"])

    def _move(self, weights: list[nn.Parameter], lr: float, momentum: float, decay: float) -> None:
        pushes = []
        for weight in weights:
            past = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
            past.lerp_(weight.grad, 1 - momentum)
            pushes.append(weight.grad.lerp(past, momentum))
        rows, columns = weights[0].shape
        for weight, update in zip(weights, orthogonal(torch.stack(pushes)), strict=True):
            weight.mul_(1 - lr * decay).add_(update, alpha=-lr * max(1, rows / columns) ** 0.5)


def orthogonal(x: Tensor) -> Tensor:
    """Roughly the nearest matrices with all singular values 1 (five quintic Newton-Schulz rounds)."""
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.mT if tall else x


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * turn[0] + torch.cat((-second, first), -1) * turn[1]
