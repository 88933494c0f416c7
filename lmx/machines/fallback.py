"""An alias that may mean several models: who is asked next when one of them cannot serve a request."""

from collections.abc import Mapping

from msgspec.structs import replace

from lmx.machines.types import Refusal, RefusalKind

CANNOT = frozenset(
    {
        RefusalKind.MODEL_LOADING,
        RefusalKind.MODEL_LOAD_FAILED,
        RefusalKind.MODEL_QUARANTINED,
        RefusalKind.MODEL_UNLOADED,
        RefusalKind.INSUFFICIENT_MEMORY,
        RefusalKind.MEMORY_PRESSURE,
        RefusalKind.SAFE_MODE,
    }
)
"""What is said of a model and not of the request: another one may serve it."""


def heir(*, kind: RefusalKind, models: tuple[str, ...], declined: tuple[str, ...], spoke: bool) -> str | None:
    """The first of the alias's `models` that has not declined; None = the refusal stands.

    A request that is at fault is so everywhere, and of one that `spoke` something has been told.
    """
    if kind not in CANNOT or spoke:
        return None
    return next((model for model in models if model not in declined), None)


def last_word(*, model: str, refusal: Refusal, declined: Mapping[str, Refusal]) -> Refusal:
    """What the client is told: the last one's refusal, with what the others said."""
    others = [f"{name} ({said.message})" for name, said in declined.items() if name != model]
    if refusal.kind not in CANNOT or not others:
        return refusal
    return replace(refusal, message=f"{refusal.message} Asked before {model}: {', '.join(others)}.")
