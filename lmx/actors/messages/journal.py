"""Told to the journal actor, which is also where everybody reads: it holds the latest view of every machine."""

from typing import Any

from msgspec import Struct, field

from lmx.actors.messages.ref import Ref

Fact = str | int | float | None


class Transition(Struct, frozen=True, kw_only=True):
    """An actor's machine moved."""

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
    """What came with the event, beside the reason: with it the machine can be stepped again."""
    effects: tuple[str, ...] = ()
    """Names of what the machine wanted done."""


class Decided(Struct, frozen=True, kw_only=True):
    """A policy was asked. A replay asks it again: it must say the same."""

    actor: str
    policy: str
    """Where the function is: `lmx.machines.memory.plan`."""
    inputs: dict[str, Any]
    outcome: Any
    at: float


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
