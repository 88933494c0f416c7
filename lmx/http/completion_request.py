"""What clients may send to /v1/completions."""

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta

from lmx.http import inputs
from lmx.http.fields import bound
from lmx.http.sampling import TokenId
from lmx.http.schemas import MAX_SEQUENCES, Common
from lmx.machines.types import Prompt

DEFAULT_TOKENS = 16
"""Of OpenAI."""


class CompletionRequest(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    prompt: str | Annotated[list[str | TokenId | inputs.Ids], Meta(min_length=1)]
    best_of: Annotated[int, Meta(ge=0, le=20)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    """OpenAI allows 5."""
    suffix: str | None = None

    def neutral(self) -> Mapping[str, Any]:
        return {"best_of": self.choices, "suffix": None}

    def check(self) -> None:
        inputs.read(self.prompt, "prompt", MAX_SEQUENCES)
        if self.max_tokens == 0 and not self.echo:
            raise bound("int", ">=", 1, "max_tokens", 0)
        super().check()

    @property
    def prompt_count(self) -> int:
        return len(self.prompts())

    @property
    def limit(self) -> int | None:
        return DEFAULT_TOKENS if self.max_tokens is None else self.max_tokens

    @property
    def rivals(self) -> int | None:
        return self.logprobs

    @property
    def echoes(self) -> bool:
        return bool(self.echo)

    def prompts(self) -> list[Prompt]:
        return [*inputs.read(self.prompt, "prompt", MAX_SEQUENCES)]
