"""How the intake says no: an exception on its way to the one frame that tells it."""

from dataclasses import dataclass

from lmx.machines.types import Refusal, RefusalKind


@dataclass(frozen=True, slots=True)
class Refused(Exception):
    refusal: Refusal


def invalid(text: str, param: str | None) -> Refused:
    """The request makes no sense; `text` is a sentence."""
    return Refused(Refusal(RefusalKind.INVALID_PROMPT, text, param=param))


def unsupported(text: str, param: str) -> Refused:
    """The model cannot do what `param` asks for."""
    return Refused(Refusal(RefusalKind.UNSUPPORTED, text, param=param))


def unconstrainable(text: str, param: str) -> Refused:
    """What the text must match cannot be honoured."""
    return Refused(Refusal(RefusalKind.INVALID_CONSTRAINT, text, param=param))
