"""What the app tells a model's actor beside its spec: what earlier starts of the daemon knew, and where it runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lmx.actors.messages.state import Quarantine
from lmx.machines.canary import Golden
from lmx.machines.types import ModelSpec

IDLE_SECONDS = 600.0


@dataclass(frozen=True)
class Dossier:
    goldens: Mapping[str, Golden] = field(default_factory=dict)
    """Golden answers of all models, by the canary's key."""
    quarantine: Quarantine | None = None
    """The model begins in it; only given while its key is still the one of the model's files."""
    host: str = ""
    """lmx's version, the OS build and the chip."""
    file_key: Callable[[ModelSpec], str] = lambda spec: spec.path
    """What a quarantine depends on, by looking at the files only."""
    idle_seconds: float = IDLE_SECONDS
    """After so long without a request the canary sings again."""


BLANK = Dossier()
