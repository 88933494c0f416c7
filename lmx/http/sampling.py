"""How the next token is drawn, as clients ask for it: the fields of `Sampling` and their ranges."""

from typing import Annotated

from msgspec import Meta, Struct

from lmx.machines.types import Sampling

INT64 = 2**63

Share = Annotated[float, Meta(ge=0, le=1)]
PartOfAll = Annotated[float, Meta(gt=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Breaker = Annotated[str, Meta(min_length=1, max_length=64)]


class SamplingFields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """None = not given."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: PartOfAll | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    min_p: Share | None = None
    seed: Annotated[int, Meta(ge=-INT64, le=INT64 - 1)] | None = None
    repetition_penalty: Annotated[float, Meta(ge=0.1, le=2)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Annotated[dict[TokenId, Bias], Meta(max_length=1024)] | None = None
    typical_p: PartOfAll | None = None
    top_n_sigma: Annotated[float, Meta(ge=0, le=100)] | None = None
    xtc_probability: Share | None = None
    xtc_threshold: Share | None = None
    dry_multiplier: Annotated[float, Meta(ge=0, le=100)] | None = None
    dry_base: Annotated[float, Meta(ge=1, le=100)] | None = None
    dry_allowed_length: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    dry_penalty_last_n: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    dry_sequence_breakers: Annotated[list[Breaker], Meta(max_length=32)] | None = None

    def sampling(self, choice: int = 0) -> Sampling:
        """Of the nth choice for one prompt: with a seed each has one of its own, or all would be the same."""
        given = {name: getattr(self, name) for name in Sampling.__struct_fields__}
        given = {name: value for name, value in given.items() if value is not None}
        if self.seed is not None:
            given["seed"] = (self.seed + choice + INT64) % (2 * INT64) - INT64
        if self.dry_sequence_breakers is not None:
            given["dry_sequence_breakers"] = tuple(self.dry_sequence_breakers)
        return Sampling(**given)
