"""Told to the state actor, which alone writes what lasts from one start of the daemon to the next."""

from msgspec import Struct

from lmx.machines.canary import Golden
from lmx.machines.lasting import Quarantine as Quarantine  # noqa: PLC0414 - it belongs to this vocabulary too


class Started(Struct, frozen=True):
    """The daemon starts now; `at` is unix time."""

    at: float


class StoppedCleanly(Struct, frozen=True):
    """It stops because it was asked to."""


class ModelLoading(Struct, frozen=True):
    """The model's worker starts to load it: if the machine goes down now, it is the suspect."""

    model: str


class ModelLoaded(Struct, frozen=True):
    """The model became ready: it is to be ready after an unclean stop too, in the order of these messages."""

    model: str


class ModelUnloaded(Struct, frozen=True):
    model: str


class Quarantined(Struct, frozen=True):
    model: str
    quarantine: Quarantine


class Released(Struct, frozen=True):
    """The model is in quarantine no more."""

    model: str


class Sang(Struct, frozen=True):
    """The canary's first good answers of this key."""

    key: str
    golden: Golden


class Flush(Struct, frozen=True):
    """The pause between two writes is over."""


class StateTimedOut(Struct, frozen=True):
    """A state's deadline passed; ignored unless `generation` is still the machine's."""

    generation: int
    event: str


Message = (
    Started | StoppedCleanly | ModelLoading | ModelLoaded | ModelUnloaded | Quarantined | Released | Sang
    | Flush | StateTimedOut
)  # fmt: skip
