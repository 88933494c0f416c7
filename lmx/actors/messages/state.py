"""Told to the state actor, which alone writes what lasts from one start of the daemon to the next."""

from msgspec import Struct

from lmx.machines.canary import Golden


class Quarantine(Struct, frozen=True):
    """Why a model is not served, since when (unix time), and for which key: another one ends it."""

    reason: str
    since: float
    key: str


class Started(Struct, frozen=True):
    """The daemon starts now; `at` is unix time."""

    at: float


class StoppedCleanly(Struct, frozen=True):
    """It stops because it was asked to."""


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


Message = Started | StoppedCleanly | ModelLoaded | ModelUnloaded | Quarantined | Released | Sang
