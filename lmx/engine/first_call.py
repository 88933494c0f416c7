"""Finds out where the first call of a text is complete, for generations that may call once."""

from lmx.engine.rules import Rules
from lmx.formats.parting import Parting


class FirstCall:
    def __init__(self, parting: Parting) -> None:
        self._parting = parting

    def ended(self, text: str) -> bool:
        """Whether the call is complete with this piece of the text."""
        self._parting.feed(text)
        return self._parting.called


def first_call(rules: Rules) -> FirstCall | None:
    """None where as many calls may come as like, or a grammar lets only one come."""
    return FirstCall(Parting(rules.speech, rules.functions)) if rules.speech and rules.functions else None
