"""What becomes of each field of OpenAI's and Anthropic's requests, for docs/api.md: read off the Structs."""

import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import Struct

from lmx.http import docstrings
from lmx.http.routes import Route

Fate = Literal["honoured", "one value", "label", "refused"]
WITHOUT_EFFECT = "ithout effect"
"""How the docstring of a label says that it is one."""


class Field(NamedTuple):
    name: str
    fate: Fate
    meaning: str = ""

    def row(self) -> str:
        """Of a table in Markdown."""
        return f"| `{self.name}` | {FATES[self.fate]} | {self.meaning} |"


FATES: Mapping[Fate, str] = {
    "honoured": "honoured",
    "one value": "one value only",
    "label": "accepted, without effect",
    "refused": "refused",
}


def of(route: Route, theirs: Iterable[str]) -> list[Field]:
    """Those that the original has, in the order of their names, and then lmx's own."""
    assert route.asks is not None
    had = set(route.asks.__struct_fields__)
    theirs = sorted(theirs)
    neutral = _neutral(route)
    texts = _texts(route.asks)
    told = [_field(name, texts[name], neutral) for name in had]
    own = sorted(field for field in told if field.name not in theirs)
    by_name = {field.name: field for field in told}
    return [by_name.get(name, Field(name, "refused")) for name in theirs] + own


def _neutral(route: Route) -> Mapping[str, Any]:
    """What a request for the example may say of fields that cannot be honoured."""
    request = msgspec.convert(route.example, route.asks)
    told: Mapping[str, Any] = getattr(request, "neutral", dict)()
    return told


def _texts(asked: type[Struct]) -> dict[str, str]:
    """Of each field, or else of the class that it holds."""
    texts = docstrings.of_fields(asked)
    kinds = typing.get_type_hints(asked)
    return {name: texts.get(name) or _of_class(kinds[name]) for name in asked.__struct_fields__}


def _of_class(kind: Any) -> str:
    classes = [one for one in typing.get_args(kind) or (kind,) if isinstance(one, type) and issubclass(one, Struct)]
    return docstrings.of_class(classes[0]) if len(classes) == 1 else ""


def _json(value: Any) -> str:
    return f"`{msgspec.json.encode(value).decode()}`"


def _field(name: str, text: str, neutral: Mapping[str, Any]) -> Field:
    if name in neutral:
        value = neutral[name]
        return Field(name, "refused") if value is None else Field(name, "one value", _json(value))
    return Field(name, "label" if WITHOUT_EFFECT in text else "honoured", text)
