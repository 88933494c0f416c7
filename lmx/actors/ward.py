"""One model's quarantine, as it is told to the state actor: it lasts beyond the daemon."""

from lmx.actors.base import House
from lmx.actors.dossier import Dossier
from lmx.actors.facts import Note
from lmx.actors.messages import state
from lmx.machines.types import ModelSpec


class Ward:
    def __init__(self, name: str, house: House, note: Note, dossier: Dossier) -> None:
        self._name = name
        self._house = house
        self._note = note
        self._dossier = dossier
        self._barred = dossier.quarantine
        self._key = ""

    def started(self) -> None:
        """The actor starts: people are to see why the model is not served."""
        if self._barred is not None:
            self._note(quarantine=self._barred.reason, quarantined_since=round(self._barred.since))

    def launched(self, spec: ModelSpec) -> None:
        """A worker starts: if it ends in quarantine, that is for the files as they are now."""
        self._key = self._dossier.file_key(spec)

    def began(self, reason: str) -> None:
        self._barred = state.Quarantine(reason, self._house.clock.time(), self._key)
        self._house.state.tell(state.Quarantined(self._name, self._barred))
        self.started()

    def ended(self) -> None:
        self._barred = None
        self._house.state.tell(state.Released(self._name))
        self._note(quarantine=None, quarantined_since=None)
