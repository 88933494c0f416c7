"""Told to the journal actor, which is also where everybody reads: it holds the latest view of every machine."""

from typing import Any, Literal, get_args

from msgspec import Struct, field

from lmx.actors.messages.ref import Ref

Fact = str | bool | int | float | None


class Transition(Struct, frozen=True, kw_only=True):
    """An actor's machine took an event, or began (`source` is empty); it moved where `source` and `target` differ.

    `data`, `effects` and `memory` are in values that JSON has: with them the machine can be stepped again.
    """

    actor: str
    machine: str
    event: str
    source: str
    target: str
    at: float
    """Unix time, seconds."""
    legal: tuple[str, ...]
    """Events that may come next."""
    reason: str = ""
    """Why it moved, or what it waits for now; a sentence."""
    data: dict[str, Any] = field(default_factory=dict)
    """What came with the event, beside the reason."""
    effects: tuple[Any, ...] = ()
    """What the machine wanted done: `"SpawnWorker"`, `{"Schedule": {"seconds": 1.0, "event": "retry"}}`."""
    memory: dict[str, Any] = field(default_factory=dict)
    """What it knows besides its state, afterwards."""
    exact: bool = True
    """False: something could not be written down, so a replay must leave this out."""


class Decided(Struct, frozen=True, kw_only=True):
    """A policy was asked. A replay asks it again: it must say the same. All in values that JSON has."""

    actor: str
    policy: str
    """Where the function is: `lmx.machines.memory.plan`."""
    inputs: dict[str, Any]
    outcome: Any
    at: float
    exact: bool = True
    """As in Transition."""


Record = Transition | Decided
"""What is kept on disk."""

Kind = Literal["start", "event", "decision", "dropped"]
KINDS: tuple[str, ...] = get_args(Kind)


class Entry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A record as it is read again; which fields are set depends on its kind."""

    seq: int
    """Grows from entry to entry, over all runs."""
    run: int
    """Which start of the daemon it belongs to."""
    at: float
    monotonic: float = 0.0
    """Seconds of the run's monotonic clock, when it was handed over."""
    kind: Kind
    actor: str = ""
    machine: str = ""
    event: str = ""
    """Of a decision: the policy. Of `dropped`: how many records were lost here."""
    source: str = ""
    target: str = ""
    reason: str = ""
    data: Any = None
    """What came with the event, or what the policy was asked."""
    effects: Any = None
    """What the machine wanted done, or what the policy said."""
    memory: Any = None
    exact: bool = True


class Page(Struct, frozen=True):
    """Entries, the newest last, and the `seq` after which the next ones come."""

    entries: tuple[Entry, ...]
    cursor: int


class Noted(Struct, frozen=True):
    """What an actor knows about itself besides its state; merged into what it noted before."""

    actor: str
    facts: dict[str, Fact]


class MachineView(Struct, frozen=True, kw_only=True):
    """The latest that is known of one machine."""

    actor: str
    machine: str
    state: str
    since: float
    legal: tuple[str, ...]
    reason: str = ""
    facts: dict[str, Fact] = field(default_factory=dict)


class Board(Struct, frozen=True):
    """Every machine, in the order of the actors' start, and the latest transitions, oldest first."""

    machines: tuple[MachineView, ...]
    transitions: tuple[Transition, ...]


class Read(Struct, frozen=True):
    reply_to: Ref[Board]


Message = Transition | Decided | Noted | Read
