"""How many slots the next worker of a model is given, after one of them had no memory for as many as are configured."""

from msgspec import Struct

FIRST_SECONDS = 1800.0
LONGEST_SECONDS = 28_800.0


class Allowance(Struct, frozen=True):
    """After an out-of-memory death a slot less; after enough service without another one, a slot more."""

    lost: int = 0
    """Slots less than configured."""
    seconds: float = FIRST_SECONDS
    """Of service that earn one slot back; doubled when a slot that was given back ends like the one before it."""
    served: float = 0.0
    """Seconds since the latest slot was lost or given back."""
    regained: bool = False
    """A slot has been given back since the latest one was lost."""


FULL = Allowance()


def is_earned(allowance: Allowance, served: float) -> bool:
    """Whether a worker that is replaced after `served` seconds is followed by one with a slot more."""
    return allowance.lost > 0 and allowance.served + served >= allowance.seconds


def after(*, allowance: Allowance, configured: int, oom: bool, served: float) -> Allowance:
    """The one of the next worker; this one has `served` so many seconds, and ended for lack of memory or otherwise."""
    if oom:
        patience = min(2 * allowance.seconds, LONGEST_SECONDS) if allowance.regained else allowance.seconds
        return Allowance(min(allowance.lost + 1, max(0, configured - 1)), patience)
    if not allowance.lost and allowance.served + served >= LONGEST_SECONDS:
        return FULL
    if not is_earned(allowance, served):
        return Allowance(allowance.lost, allowance.seconds, allowance.served + served, allowance.regained)
    return Allowance(allowance.lost - 1, allowance.seconds, regained=True)


def explain(allowance: Allowance, configured: int) -> str | None:
    """As a fact for people; None when nothing is withheld."""
    if not allowance.lost:
        return None
    left = max(0.0, allowance.seconds - allowance.served) / 60
    has = f"{configured - allowance.lost} of {configured}"
    return f"{has} since it was out of memory; one more after {left:.0f} min of service"
