"""Layers of settings (TOML, environment, flags) merged into a Struct. Every mistake is one ConfigError sentence."""

import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar, get_args, get_origin

import msgspec
from msgspec import Struct
from msgspec import inspect as kinds

Key = tuple[str, ...]
"""Where a setting is: ("server", "port")."""

S = TypeVar("S", bound=Struct)

SECRET = {"secret": True}
"""As `Meta(extra=SECRET)`: values of this kind are never shown."""


class ConfigError(Exception):
    """A setting is wrong. The message is one sentence: where it is, what was found, what was expected."""


class Setting(NamedTuple):
    key: Key
    kind: Any
    default: Any


class Layer(Struct, frozen=True):
    """Settings of one origin; `where` names the line, the variable or the flag that set a key."""

    values: dict[Key, Any]
    where: Callable[[Key], str]
    typed: bool
    """False: values may be text that stands for a number or a truth value."""


def settings(shape: type[Struct], prefix: Key = ()) -> Iterator[Setting]:
    """Every setting of `shape` whose name is fixed: not those of tables that the user names."""
    for item in msgspec.structs.fields(shape):
        key = (*prefix, item.name)
        if isinstance(item.type, type) and issubclass(item.type, Struct):
            yield from settings(item.type, key)
        elif get_origin(item.type) is not dict:
            yield Setting(key, item.type, item.default)


def from_toml(text: str, name: str, shape: type[Struct]) -> Layer:
    """The settings of a TOML file called `name`. Raises ConfigError for bad syntax and for keys that `shape` lacks."""

    def where(key: Key) -> str:
        return f"{name}, line {_line(text, key)}"

    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}, {_syntax(str(error), text)}.") from None
    return Layer(dict(_leaves(tree, shape, (), where)), where, typed=True)


def from_names(values: Mapping[str, Any], names: Mapping[str, Key], aside: frozenset[str] = frozenset()) -> Layer:
    """Settings called by name: variables or flags. Raises ConfigError for a name that is neither known nor `aside`."""
    found: dict[Key, str] = {}
    for name in values.keys() - aside:
        if name not in names:
            raise ConfigError(f"{name}: there is no such setting{_hint(name, {name: name for name in names})}.")
        if (other := found.setdefault(names[name], name)) != name:
            both = " and ".join(sorted((name, other)))
            raise ConfigError(f"{both} are one setting under two names: give only one of them.")
    return Layer({key: values[name] for key, name in found.items()}, found.__getitem__, typed=False)


def merge(shape: type[S], layers: Iterable[Layer]) -> S:
    """The Struct that the layers make, later ones winning. Raises ConfigError for a value of the wrong kind."""
    tree: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.values.items():
            table = tree
            for part in key[:-1]:
                table = table.setdefault(part, {})
            table[key[-1]] = _converted(shape, key, value, layer)
    return msgspec.convert(tree, shape)


def words(kind: Any) -> str:
    """What a value of this kind is, in words: "a whole number from 0 to 65535"."""
    match kinds.type_info(kind):
        case kinds.LiteralType(values=values):
            return "one of " + ", ".join(map(str, values))
        case kinds.IntType(ge=low, le=None):
            return f"a whole number of at least {low}"
        case kinds.IntType(ge=low, le=high):
            return f"a whole number from {low} to {high}"
        case kinds.FloatType(ge=float() | int() as low, le=high):
            return f"a number from {low} to {high}"
        case kinds.FloatType(gt=low, le=high):
            return f"a number above {low} and at most {high}"
        case kinds.BoolType():
            return "true or false"
        case kinds.StrType(min_length=least):
            return "text that is not empty" if least else "text"
        case kinds.UnionType():
            return words(get_args(kind)[0])
        case kinds.Metadata(extra_json_schema={"description": text}):
            return str(text)
        case kinds.VarTupleType(item_type=kinds.Metadata(extra_json_schema={"description": text})):
            return f"a list of {text}"
        case _:
            return "a table"


def _converted(shape: type[Struct], key: Key, value: Any, layer: Layer) -> Any:
    kind = _kind(shape, key)
    if not layer.typed and isinstance(value, str) and get_origin(kind) is tuple:
        value = [part.strip() for part in value.split(",") if part.strip()]
    try:
        return msgspec.to_builtins(msgspec.convert(value, kind, strict=layer.typed))
    except msgspec.ValidationError:
        problem = f"{'.'.join(key)} is {'not shown' if _is_secret(kind) else _shown(value)}, expected {words(kind)}"
        raise ConfigError(f"{layer.where(key)}: {problem}.") from None


def _is_secret(kind: Any) -> bool:
    info = kinds.type_info(kind)
    return getattr(info.item_type if isinstance(info, kinds.VarTupleType) else info, "extra", None) == SECRET


def _kind(kind: Any, key: Key) -> Any:
    for part in key:
        kind = _inner(kind, part)
    return kind


def _inner(kind: Any, part: str) -> Any:
    """The kind of `part` in a table; None when there is no such part."""
    if get_origin(kind) is dict:
        return get_args(kind)[1]
    return next((item.type for item in msgspec.structs.fields(kind) if item.name == part), None)


def _leaves(value: Any, kind: Any, key: Key, where: Callable[[Key], str]) -> Iterator[tuple[Key, Any]]:
    table = get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, Struct))
    if not table or not isinstance(value, dict) or (key and not value):
        yield key, value
        return
    for part, inner in value.items():
        if (inner_kind := _inner(kind, part)) is None:
            unknown = f"there is no setting {'.'.join((*key, part))}{_hint(part, _names(kind))}"
            raise ConfigError(f"{where((*key, part))}: {unknown}.")
        yield from _leaves(inner, inner_kind, (*key, part), where)


def _line(text: str, key: Key) -> int:
    """The line where the statement that sets `key` begins: the first prefix of the file that parses and has it."""
    lines = text.splitlines()
    begin = 1
    for end in range(1, len(lines) + 1):
        try:
            node: Any = tomllib.loads("\n".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue
        for part in key:
            node = node.get(part) if isinstance(node, dict) else None
        if node is not None:
            return begin
        begin = end + 1
    return begin


def _names(kind: type[Struct]) -> dict[str, str]:
    """What may be meant in a table: its own names, and those further down, which may have lost their table."""
    below = {setting.key[-1]: ".".join(setting.key) for setting in settings(kind)}
    return below | {item.name: item.name for item in msgspec.structs.fields(kind)}


def _hint(name: str, known: Mapping[str, str]) -> str:
    from difflib import get_close_matches  # only ever needed on the way out

    close = get_close_matches(name, known, n=1)
    return f" (did you mean {known[close[0]]}?)" if close else ""


def _shown(value: Any) -> str:
    match value:
        case str():
            return f'"{value}"'
        case bool():
            return str(value).lower()
        case dict():
            return "a table"
        case list():
            return "a list"
        case _:
            return str(value)


def _syntax(message: str, text: str) -> str:
    """tomllib's "Invalid value (at line 3, column 5)", or "(at end of document)", with the line first."""
    problem, _, place = message.partition(" (at ")
    words = place.rstrip(")").replace(",", "").split()
    line = words[1] if words[:1] == ["line"] else max(1, len(text.splitlines()))
    return f"line {line}: not valid TOML: {problem[:1].lower() + problem[1:]}"
