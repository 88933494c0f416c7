"""What a chat may consist of beside plain text: tools and thoughts. Values only."""

from typing import Any, Literal

from msgspec import Struct

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class Thinking(Struct, frozen=True, omit_defaults=True):
    """How a chat thinks before it answers; what is None is left to the model's template."""

    enabled: bool | None = None
    effort: Effort | None = None
    hint: bool = False
    """The effort does not ask for thoughts: it only says how many there may be, where there are any."""
    budget: int | None = None
    """Tokens of thoughts, after which the model is made to answer."""


class Calling(Struct, frozen=True, omit_defaults=True):
    """How the tools of a chat may be called. Without it they are called as the model likes, several at a time."""

    required: bool = False
    """At least one call, held to its function's schema."""
    only: tuple[str, ...] = ()
    """Names of the functions that may be called; () = all of them."""
    parallel: bool = True
    """False: exactly one call, if any."""


class Speech(Struct, frozen=True, omit_defaults=True):
    """How a model marks what is not its answer: names in the tables of lmx/formats."""

    calls: str = ""
    """Of formats/table.py; empty = its template knows no tools."""
    thoughts: str = ""
    """Of formats/thinking.py; empty = it does not think."""
    opened: bool = False
    """The prompt ends within a thought, so the text begins in it."""
    switch: bool = False
    """Thinking can be switched off."""


def function_of(tool: dict[str, Any]) -> dict[str, Any]:
    """The name, description and parameters of a tool as chat templates read it."""
    function: dict[str, Any] = tool["function"]
    return function
