"""Vocabularies of real models, and texts written by drawing among the tokens that a constraint allows."""

import functools
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmx.backends.base import Info
from lmx.backends.registry import open_backend
from lmx.engine.constraint import Grammar, Grammars
from lmx.machines.types import BackendName, Constraint, ModelSpec
from tests.support import guide, models

CLOSING = (b'"', b"]", b"}")


@dataclass(frozen=True)
class Model:
    info: Info
    encode: Callable[[str], list[int]]

    def grammars(self) -> Grammars:
        return Grammars(self.info, self.encode)


@functools.cache
def model(name: str) -> Model:
    """guide or tiny as GGUF, guide_mlx for mlx-lm."""
    paths: dict[str, tuple[str, BackendName]] = {
        "guide": (str(guide.GGUF), "llama_cpp"),
        "tiny": (str(models.gguf_file()), "llama_cpp"),
        "guide_mlx": (str(guide.MLX), "mlx"),
    }
    path, kind = paths[name]
    backend = open_backend(kind)
    info = backend.load(ModelSpec(name=name, path=path, backend=kind, context=128, slots=1), lambda _: True)
    return Model(info, lambda text: backend.encode(text, special=False))


def schema(value: Any) -> Constraint:
    return Constraint("json_schema", json.dumps(value))


def allowed(words: np.ndarray[Any, np.dtype[np.uint32]]) -> list[int]:
    return [int(token) for token in np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little"))]


def written(grammar: Grammar, info: Info, seed: int, limit: int = 300) -> bytes | None:
    """A text under the constraint, token by token; None when it is not complete after `limit` of them.

    Tokens that may close something are preferred now and then, or few texts would ever end.
    """
    draw, mask, text = random.Random(seed), grammar.mask(), b""
    for _ in range(limit):
        tokens = allowed(mask.allowed())
        assert not mask.fault, (mask.fault, text)
        assert tokens, text
        closing = [token for token in tokens if token in info.eos or info.token_bytes[token].endswith(CLOSING)]
        token = draw.choice(closing if closing and draw.random() < 0.4 else tokens)
        mask.accept(token)
        if token in info.eos:
            return text
        assert info.token_bytes[token]
        text += info.token_bytes[token]
    return None


def possible_text(constraint: Constraint, text: str) -> bool:
    """Whether exactly this text may be written, byte by byte, by the tiny model."""
    tiny = model("tiny")
    spelled = {piece: token for token, piece in enumerate(tiny.info.token_bytes) if len(piece) == 1}
    mask = tiny.grammars().compile(constraint).mask()
    for byte in text.encode():
        mask.accept(spelled[bytes([byte])])
    return not set(allowed(mask.allowed())).isdisjoint(tiny.info.eos) and not mask.fault
