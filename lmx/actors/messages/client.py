"""Told to whoever waits for a generation: progress, then exactly one outcome (Finished, Refused or Failed)."""

from msgspec import Struct

from lmx.machines.types import Failure, FinishReason, Refusal, Usage


class Accepted(Struct, frozen=True):
    """The model took the sequence: it will end in Finished or Failed, no longer in Refused."""

    prompt_tokens: int


class Prefilled(Struct, frozen=True):
    """`done` prompt tokens are read."""

    done: int


class Delta(Struct, frozen=True):
    """More text (never empty) and what it cost so far. `token_ids` only for audited sequences."""

    text: str
    token_ids: tuple[int, ...] = ()


class Finished(Struct, frozen=True):
    reason: FinishReason
    usage: Usage


class Refused(Struct, frozen=True):
    refusal: Refusal


class Failed(Struct, frozen=True):
    failure: Failure


Event = Accepted | Prefilled | Delta | Finished | Refused | Failed
Outcome = Finished | Refused | Failed
