"""How a message is to be thought about, and what its text must match, as clients of Anthropic say it."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from lmx.http.anthropic.faults import at
from lmx.machines import limits
from lmx.machines.speech import Effort, Thinking
from lmx.machines.types import Constraint, RefusalKind

Display = Literal["summarized", "omitted"]
EFFORTS: dict[str, Effort | None] = {"low": "low", "medium": "medium", "high": None, "xhigh": "xhigh", "max": "max"}
"""`high` is Anthropic's default: it asks for nothing. None of them switches thoughts on; a model without takes any."""


class Adaptive(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="adaptive"):
    """The model thinks as its template has it."""

    display: Display | None = None
    on = True


class Enabled(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="enabled"):
    budget_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    display: Display | None = None
    on = True


class Disabled(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="disabled"):
    display = None
    on = False


ThinkingConfig = Enabled | Disabled | Adaptive


class OutputFormat(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="json_schema"):
    schema: dict[str, Any]


class OutputConfig(Struct, frozen=True, forbid_unknown_fields=True):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


def thinking_of(config: ThinkingConfig | None, output: OutputConfig | None) -> Thinking:
    effort = EFFORTS[output.effort] if output is not None and output.effort is not None else None
    match config:
        case Enabled(budget_tokens=budget):
            return Thinking(enabled=True, effort=effort, budget=budget)
        case Disabled():  # no tokens for thoughts: also a model that always thinks can do that
            return Thinking(budget=0)
        case _:
            return Thinking(effort=effort, hint=effort is not None)


def constraint_of(output: OutputConfig | None, older: OutputFormat | None) -> Constraint | None:
    """Of `output_config.format`, or of `output_format`, as it was called before. Raises ApiError."""
    newer = output.format if output is not None else None
    wanted = newer or older
    if wanted is None:
        return None
    place = "output_config.format" if newer else "output_format"
    try:
        limits.check_schema(wanted.schema)
    except limits.LimitError as error:
        raise at(f"{place}.schema", str(error), RefusalKind.INVALID_CONSTRAINT.value) from error
    return Constraint("json_schema", msgspec.json.encode(wanted.schema).decode())
