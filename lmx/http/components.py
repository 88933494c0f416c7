"""The JSON schemas of everything that is sent and answered, from the Structs themselves."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_type_hints

import msgspec
from msgspec import UNSET, Struct, inspect

from lmx.http import constraints, docstrings, embeddings, logprobs, replies, schemas
from lmx.http.responses.request import ResponseRequest

REF = "#/components/schemas/"

WANTED = get_type_hints(constraints.Wanted, include_extras=True)
EXACT: Mapping[type[Struct], Mapping[str, Any]] = {
    schemas.Common: WANTED,
    ResponseRequest: {name: form for name, form in WANTED.items() if name != "response_format"},
    replies.ChunkChoice: {"logprobs": logprobs.ChatLogprobs | None},
    replies.ChunkDelta: {"content": str | None},
    replies.TextChoice: {"text": str, "logprobs": logprobs.TextLogprobs | None},
    embeddings.Embeddings: {"data": list[embeddings.Row]},
}
"""What fields are that their Struct only says to be any JSON."""


class Schemas:
    """`of` gives the schema of each type by its place in `asked` and then `told`; `components` those that they use."""

    def __init__(self, asked: Iterable[Any], told: Iterable[Any]) -> None:
        """`asked`: what clients send; `told`: what they get, where a field with a default is there all the same."""
        asked, told = list(asked), list(told)
        there = set(_structs([*asked, *told]))
        exact = [
            (kind, name, form)
            for kind, fields in EXACT.items()
            if any(issubclass(shape, kind) for shape in there)
            for name, form in fields.items()
        ]
        forms, found = _schemas([*asked, *told, *(form for _, _, form in exact)])
        self.of = forms[: len(asked) + len(told)]
        self.components = found
        precise = zip(exact, forms[len(self.of) :], strict=True)
        better = {(kind, name): form for (kind, name, _), form in precise}
        sent = set(_structs([*asked, *(form for _, _, form in exact)]))
        for shape in _structs([*asked, *told, *(form for _, _, form in exact)]):
            _finish(found[_name(shape, found)], shape, shape not in sent, better)


def _schemas(kinds: list[Any]) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    forms, found = msgspec.json.schema_components(kinds, ref_template=REF + "{name}")
    return list(forms), found


def _finish(
    component: dict[str, Any], shape: type[Struct], told: bool, better: Mapping[tuple[type, str], dict[str, Any]]
) -> None:
    component.pop("title", None)
    texts = docstrings.of_fields(shape)
    for field in msgspec.structs.fields(shape):
        form = component["properties"][field.encode_name]
        for kind in shape.__mro__:
            if (kind, field.name) in better:
                form = component["properties"][field.encode_name] = better[kind, field.name]
        if field.name in texts:
            component["properties"][field.encode_name] = {**form, "description": texts[field.name]}
    if told and not shape.__struct_config__.omit_defaults:
        fields = msgspec.structs.fields(shape)
        tag = [shape.__struct_config__.tag_field] if shape.__struct_config__.tag_field else []
        component["required"] = tag + [field.encode_name for field in fields if field.default is not UNSET]
    if not component["required"]:
        del component["required"]


def _structs(kinds: Iterable[Any]) -> Iterator[type[Struct]]:
    """Every Struct that is one of `kinds` or part of one, once."""
    seen: set[type[Struct]] = set()
    waiting: list[Any] = list(inspect.multi_type_info(list(kinds)))
    while waiting:
        info = waiting.pop()
        if isinstance(info, inspect.StructType):
            if info.cls in seen:
                continue
            seen.add(info.cls)
            yield info.cls
            waiting += [field.type for field in info.fields]
        elif isinstance(info, inspect.Type):
            waiting += _parts(info)


def _parts(info: inspect.Type) -> Iterator[inspect.Type]:
    for name in getattr(info, "__struct_fields__", ()):
        value = getattr(info, name)
        if isinstance(value, inspect.Type):
            yield value
        elif isinstance(value, tuple):
            yield from (one for one in value if isinstance(one, inspect.Type))


def _name(shape: type[Struct], found: Mapping[str, Any]) -> str:
    """msgspec names a class in full where another one has the same name."""
    return shape.__name__ if shape.__name__ in found else f"{shape.__module__}.{shape.__qualname__}"
