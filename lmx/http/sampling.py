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
BY_ID = {"propertyNames": {"pattern": "^[0-9]+$"}}
Breaker = Annotated[str, Meta(min_length=1, max_length=64)]


class SamplingFields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """None = not given."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: PartOfAll | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    """Only the so many likeliest tokens are drawn from; 0 = off."""
    min_p: Share | None = None
    """Tokens of less than this share of the likeliest one's probability are not drawn; 0 = off."""
    seed: Annotated[int, Meta(ge=-INT64, le=INT64 - 1)] | None = None
    repetition_penalty: Annotated[float, Meta(ge=0.1, le=2)] | None = None
    """Divides what speaks for tokens that have been; 1 = off."""
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Annotated[dict[TokenId, Bias], Meta(max_length=1024, extra_json_schema=BY_ID)] | None = None
    typical_p: PartOfAll | None = None
    """Locally typical sampling; 1 = off."""
    top_n_sigma: Annotated[float, Meta(ge=0, le=100)] | None = None
    """Only tokens within so many standard deviations of the best logit are drawn from; 0 = off."""
    xtc_probability: Share | None = None
    """Chance that all likely tokens but the last of them are excluded; 0 = off."""
    xtc_threshold: Share | None = None
    """Probability from which on a token counts as likely for that."""
    dry_multiplier: Annotated[float, Meta(ge=0, le=100)] | None = None
    """Penalty on continuing a repetition; 0 = off."""
    dry_base: Annotated[float, Meta(ge=1, le=100)] | None = None
    """It grows by this factor with each token of the repetition."""
    dry_allowed_length: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    """Repetitions of so many tokens are free."""
    dry_penalty_last_n: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    """How many tokens back repetitions are looked for; -1 = the whole sequence."""
    dry_sequence_breakers: Annotated[list[Breaker], Meta(max_length=32)] | None = None
    """Texts that no repetition reaches across."""

    def sampling(self, choice: int = 0) -> Sampling:
        """Of the nth choice for one prompt: with a seed each has one of its own, or all would be the same."""
        given = {name: getattr(self, name) for name in Sampling.__struct_fields__}
        given = {name: value for name, value in given.items() if value is not None}
        if self.seed is not None:
            given["seed"] = (self.seed + choice + INT64) % (2 * INT64) - INT64
        if self.dry_sequence_breakers is not None:
            given["dry_sequence_breakers"] = tuple(self.dry_sequence_breakers)
        return Sampling(**given)
