"""All that a model may be asked for."""

from typing import Literal

from msgspec import Struct

from lmx.machines.types import Embedding, Generation, Prompt


class Rendering(Struct, frozen=True):
    """What the model's template and tokenizer make of `source`; nothing is computed with it."""

    source: Prompt
    to: Literal["tokens", "text"]
    bos: bool = True
    """A text starts with the token that the model's raw prompts start with."""
    control: bool = True
    """What looks like a control token in a text is one."""


Task = Generation | Embedding | Rendering
