"""All that a model may be asked for."""

from typing import Literal

from msgspec import Struct

from lmx.machines.types import Generation, Prompt, Text, Tokens


class Pair(Struct, frozen=True, tag="pair"):
    """What a reranking model judges."""

    query: str
    document: str


Input = Text | Tokens | Pair


class Embedding(Struct, frozen=True):
    """Texts to be embedded or, with `score`, pairs whose relevance is asked for."""

    inputs: tuple[Input, ...]
    score: bool = False
    dimensions: int = 0
    """Leading numbers of each embedding that are wanted, at length 1 again; 0 = all of them."""


class Rendering(Struct, frozen=True):
    """What the model's template and tokenizer make of `source`; nothing is computed with it."""

    source: Prompt
    to: Literal["tokens", "text"]
    bos: bool = True
    """A text starts with the token that the model's raw prompts start with."""
    control: bool = True
    """What looks like a control token in a text is one."""


Task = Generation | Embedding | Rendering
