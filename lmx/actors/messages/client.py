"""Told to whoever waits for a generation: progress, then exactly one outcome (Finished, Refused or Failed)."""

from msgspec import Struct

from lmx.machines.speech import Speech
from lmx.machines.types import CacheReport, Cut, Failure, FinishReason, Refusal, TokenLogprob, Usage


class Accepted(Struct, frozen=True):
    """The model took the sequence: it will end in Finished or Failed, no longer in Refused."""

    prompt_tokens: int
    echo: str = ""
    """The prompt's text, where it was asked for."""
    cut: Cut | None = None
    """What was left out of the prompt."""
    speech: Speech | None = None
    """How the text of a chat is to be read; None for other prompts."""
    model: str = ""
    """Who serves it."""


class Prefilled(Struct, frozen=True):
    """`done` prompt tokens are read; `logprobs` are those of the ones that were not told before."""

    done: int
    logprobs: tuple[TokenLogprob, ...] = ()
    cache: CacheReport | None = None


class Delta(Struct, frozen=True, gc=False):
    """More text, and the tokens that it is made of where their log-probabilities were asked for; never both empty."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


class Embedded(Struct, frozen=True):
    """What was asked for with an `Embedding`: little-endian float32, `width` of them for each input (1 for scores).

    Told once, before Finished.
    """

    vectors: bytes
    width: int
    tokens: tuple[int, ...]
    """Of each input."""
    model: str = ""
    """Who made them: vectors of two models have nothing in common."""


class Rendered(Struct, frozen=True):
    """What was asked for with a `Rendering`: the one of both that it names. Told once, before Finished."""

    tokens: tuple[int, ...]
    text: str
    model: str = ""
    """Whose tokens, or whose template, they are."""


class Finished(Struct, frozen=True):
    reason: FinishReason
    usage: Usage
    stop: str = ""
    """The stop string that ended it, if one did."""


class Refused(Struct, frozen=True):
    refusal: Refusal


class Failed(Struct, frozen=True):
    failure: Failure


Event = Accepted | Prefilled | Delta | Embedded | Rendered | Finished | Refused | Failed
Outcome = Finished | Refused | Failed
