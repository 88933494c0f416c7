"""What is written down of a step or a decision, and how it is done again from what was written."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any, Union, get_type_hints

import msgspec
from msgspec import Struct

from lmx.machines.base import Machine
from lmx.machines.tasks import Embedding, Pair, Rendering
from lmx.machines.types import Chat, Generation, Text, Tokens

PACKAGE = "lmx.machines."
MOST = 64 * 1024
"""Bytes of JSON that one value may have."""
SECRET = (Chat, Text, Tokens, Pair, Generation, Embedding, Rendering)
"""Hold what users wrote: never written down."""


class CannotRecordError(TypeError):
    """Something cannot be written down so that it can be done again; the message is a sentence."""


class Stepped(Struct, frozen=True):
    """What came of one event, in values that JSON has."""

    target: str
    effects: list[Any]
    memory: dict[str, Any]


def plain(value: Any) -> Any:
    """A copy in values that JSON has, and nothing larger than MOST. Raises CannotRecordError."""
    try:
        text = msgspec.json.encode(value)
    except (TypeError, ValueError) as error:
        raise CannotRecordError(f"{type(value).__name__} is not JSON: {error}") from error
    if len(text) > MOST:
        raise CannotRecordError(f"it has {len(text)} bytes of JSON; {MOST} may be written down")
    return msgspec.json.decode(text)


def named(value: Any) -> Any:
    """As `plain`, with the names of Structs, and sets in order: `"Fits"`, `{"Evict": {"models": ["a"]}}`."""
    return plain(_named(value))


def _named(value: Any) -> Any:
    match value:
        case Struct():
            fields = msgspec.to_builtins(value, order="sorted")
            return {type(value).__name__: fields} if fields else type(value).__name__
        case list() | tuple():
            return [_named(item) for item in value]
        case set() | frozenset():
            return msgspec.to_builtins(value, order="deterministic")
        case _:
            return value


def stepped(machine: Machine, effects: tuple[Any, ...]) -> Stepped:
    """Raises CannotRecordError."""
    return Stepped(machine.current, named(effects), plain(machine.memory()))


def step(machine: Machine, event: str, reason: str, data: Mapping[str, Any]) -> Stepped:
    """Feed a recorded event. Raises TransitionNotAllowed, and TypeError for data that its hooks do not take."""
    return stepped(machine, machine.step(event, reason=reason, **typed(data, arguments(type(machine)))))


def ask(name: str, inputs: Mapping[str, Any]) -> Any:
    """What the policy says today. Raises LookupError when there is none, TypeError when the inputs do not fit it."""
    function = policy(name)
    return named(function(**typed(inputs, get_type_hints(function))))


def policy(name: str) -> Callable[..., Any]:
    """The function of that name; only those of lmx.machines.* are ever called. Raises LookupError."""
    module, _, short = name.rpartition(".")
    try:
        found = getattr(import_module(module), short) if name.startswith(PACKAGE) else None
    except (ImportError, AttributeError):
        found = None
    if not inspect.isfunction(found) or f"{found.__module__}.{found.__qualname__}" != name:
        raise LookupError(f"{name} is no function of a module in {PACKAGE.rstrip('.')}")
    return found


def typed(values: Mapping[str, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    """What was made plain, made into what the hints say again. Raises TypeError."""
    return {name: _typed(name, value, hints.get(name, Any)) for name, value in values.items()}


def _typed(name: str, value: Any, hint: Any) -> Any:
    try:
        return msgspec.convert(value, hint, str_keys=True)
    except (msgspec.ValidationError, TypeError) as error:
        raise TypeError(f"{name} cannot be made into {hint} again: {error}") from error


@cache
def arguments(machine: type[Machine]) -> Mapping[str, Any]:
    """The types of what the hooks of a machine take, by name; hooks that differ make a union."""
    found: dict[str, Any] = {}
    for cls in machine.__mro__[: machine.__mro__.index(Machine)]:
        for function in filter(inspect.isfunction, vars(cls).values()):
            hints = {} if function.__name__.startswith("__") else get_type_hints(function)
            for name, hint in hints.items():
                found[name] = Union[found.get(name, hint), hint]  # noqa: UP007 - hints are values here
    return found


def secrets(value: Any) -> Iterator[str]:
    """Names of the SECRET types in a value, however deep."""
    match value:
        case Chat() | Text() | Tokens() | Pair() | Generation() | Embedding() | Rendering():
            yield type(value).__name__
        case Struct():
            for name in value.__struct_fields__:
                yield from secrets(getattr(value, name))
        case Mapping():
            for item in value.values():
                yield from secrets(item)
        case list() | tuple() | set() | frozenset():
            for item in value:
                yield from secrets(item)
        case _:
            pass
