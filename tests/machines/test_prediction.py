"""How long a request may become."""

import pytest

from lmx.machines.prediction import tokens
from lmx.machines.types import Chat, Generation, Prompt, Text, Tokens


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "expected"),
    [
        (Tokens((1,) * 30), 12, 42),
        (Text("x" * 400), 12, 112),
        (Chat(({"role": "user", "content": "x" * 400}, {"role": "user", "content": None})), 0, 100),
        (Chat(({"role": "user", "content": [{"type": "text", "text": "x" * 400}, {"type": "image"}]},)), 1, 101),
        (Text("x" * 400), None, 200),
        (Tokens((1,) * 30), 10**9, 4096),
    ],
)
def test_prompt_and_completion_count(prompt: Prompt, max_tokens: int | None, expected: int) -> None:
    """Tokens as they are, texts at four characters each; the context is the most there can be."""
    assert tokens(Generation(prompt=prompt, max_tokens=max_tokens), context=4096) == expected
