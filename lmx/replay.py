"""Steps the machines and asks the policies again, from a journal: do they still decide so? Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct, field

from lmx.actors.messages.journal import Entry
from lmx.machines import record
from lmx.machines.base import Machine, TransitionNotAllowed
from lmx.machines.diagrams import MACHINES

Actor = tuple[int, str]
"""Run and name."""

PATH = 12
_FAULTS = (TypeError, ValueError, LookupError, ArithmeticError, AssertionError, AttributeError)
"""What today's machines and policies raise when they cannot take what was recorded."""


class Divergence(Struct, frozen=True):
    """The first entry that would be another one today."""

    entry: Entry
    what: str
    """Which part of it: target, effects, memory, outcome; or machine, policy, event: there is none such today."""
    recorded: Any
    today: Any


class Life(Struct):
    """What an actor's machine went through."""

    machine: str
    state: str
    events: int = 0
    path: list[str] = field(default_factory=list)
    """The latest states, at most PATH."""


class Report(Struct):
    lives: dict[Actor, Life] = field(default_factory=dict)
    events: int = 0
    """That were stepped again."""
    decisions: int = 0
    """That were asked again."""
    inexact: int = 0
    """Entries that could not be written down as a replay needs them."""
    dropped: int = 0
    """Records that were lost because the disk was too slow."""
    divergence: Divergence | None = None


class _DivergedError(Exception):
    def __init__(self, what: str, recorded: object, today: object) -> None:
        super().__init__(what)
        self.what, self.recorded, self.today = what, recorded, today


def replay(entries: Iterable[Entry], machines: Mapping[str, type[Machine]] = MACHINES) -> Report:
    """Go through the entries in their order, up to the first divergence.

    A machine begins as its first entry left it, and so it does after a gap.
    """
    return _Replay(machines).run(entries)


class _Replay:
    def __init__(self, machines: Mapping[str, type[Machine]]) -> None:
        self._classes = machines
        self._living: dict[Actor, Machine] = {}
        self._report = Report()

    def run(self, entries: Iterable[Entry]) -> Report:
        for entry in entries:
            try:
                self._take(entry)
            except _DivergedError as diverged:
                self._report.divergence = Divergence(entry, diverged.what, diverged.recorded, diverged.today)
                break
        return self._report

    def _take(self, entry: Entry) -> None:
        match entry.kind:
            case "start":
                self._revive(entry)
            case "event":
                self._step(entry)
            case "decision":
                self._ask(entry)
            case "dropped":
                self._report.dropped += int(entry.event)
                self._forget(entry.run)

    def _forget(self, run: int) -> None:
        """What was lost may have been anybody's."""
        for actor in [actor for actor in self._living if actor[0] == run]:
            del self._living[actor]

    def _revive(self, entry: Entry) -> None:
        self._tell(entry)
        if not entry.exact:
            self._report.inexact += 1
            self._living.pop((entry.run, entry.actor), None)
            return
        cls = self._classes.get(entry.machine)
        if cls is None:
            raise _DivergedError("machine", entry.machine, None)
        try:
            self._living[entry.run, entry.actor] = cls.revived(entry.target, entry.memory)
        except _FAULTS as error:
            raise _DivergedError("memory", entry.memory, str(error)) from error

    def _step(self, entry: Entry) -> None:
        machine = self._living.get((entry.run, entry.actor))
        if machine is None or not entry.exact:
            self._revive(entry)
            return
        self._compare("source", entry.source, machine.current)
        try:
            today = record.step(machine, entry.event, entry.reason, entry.data)
        except TransitionNotAllowed:
            raise _DivergedError("event", entry.event, f"not allowed in {machine.current}") from None
        except _FAULTS as error:
            raise _DivergedError("event", entry.event, str(error)) from error
        self._compare("target", entry.target, today.target)
        self._compare("effects", entry.effects, today.effects)
        self._compare("memory", entry.memory, today.memory)
        self._tell(entry)
        self._report.events += 1

    def _ask(self, entry: Entry) -> None:
        if not entry.exact:
            self._report.inexact += 1
            return
        try:
            today = record.ask(entry.event, entry.data)
        except _FAULTS as error:
            raise _DivergedError("policy", entry.event, str(error)) from error
        self._compare("outcome", entry.effects, today)
        self._report.decisions += 1

    def _compare(self, what: str, recorded: object, today: object) -> None:
        if recorded != today:
            raise _DivergedError(what, recorded, today)

    def _tell(self, entry: Entry) -> None:
        life = self._report.lives.setdefault((entry.run, entry.actor), Life(entry.machine, entry.target))
        life.state = entry.target
        if entry.kind == "event":
            life.events += 1
        if not life.path or life.path[-1] != entry.target:
            life.path = [*life.path, entry.target][-PATH:]
