"""What a chat's text consists of, in the order in which it comes."""

from msgspec import Struct


class Said(Struct, frozen=True, gc=False):
    """A piece of the answer."""

    text: str


class Thought(Struct, frozen=True, gc=False):
    """A piece of a thought."""

    text: str


class CallBegun(Struct, frozen=True):
    """The model calls a function; calls are numbered from 0, and one ends before the next begins."""

    number: int
    name: str
    id: str = ""
    """Where the model gives it one itself."""


class CallArguments(Struct, frozen=True, gc=False):
    """A piece of the arguments: all pieces of a call together are one JSON object."""

    number: int
    text: str


class CallEnded(Struct, frozen=True):
    number: int


Part = Said | Thought | CallBegun | CallArguments | CallEnded
