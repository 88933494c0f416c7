"""Which LoRA adapters an admin wants, or the 400 that says what is wrong with them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from lmx.http import errands
from lmx.http.errors import ApiError, shown
from lmx.http.fields import convert
from lmx.machines.types import Adapter

MOST = 16
STRONGEST = 1000.0
"""A scale beyond it is a slip, and leaves no finite number in the model."""


class Wanted(Struct, frozen=True, forbid_unknown_fields=True):
    path: Annotated[str, Meta(min_length=1)]
    """As the server sees it."""
    scale: Annotated[float, Meta(ge=-STRONGEST, le=STRONGEST)] = 1.0


class Body(Struct, frozen=True, forbid_unknown_fields=True):
    adapters: Annotated[list[Wanted], Meta(max_length=MOST)]


async def wanted(body: Mapping[str, Any]) -> tuple[Adapter, ...]:
    """[] = none. Every path must be there; whether it fits the model is for the loading worker to say."""
    asked = convert(body, Body, {}, frozenset()).adapters
    try:
        await errands.run(_check, asked)
    except TimeoutError as error:
        raise ApiError(503, str(error), "disk_silent") from error
    return tuple(Adapter(adapter.path, adapter.scale) for adapter in asked)


def _check(asked: list[Wanted]) -> None:
    for number, adapter in enumerate(asked):
        param = f"adapters[{number}].path"
        if not Path(adapter.path).is_absolute():
            raise ApiError(400, f"Invalid '{param}': expected an absolute path.", "invalid_value", param)
        if not _is_there(adapter.path):
            text = f"Invalid '{param}': there is no file or folder {shown(adapter.path)} on the server."
            raise ApiError(400, text, "file_not_found", param)


def _is_there(path: str) -> bool:
    """Path.exists raises for names that no file can have."""
    try:
        Path(path).stat()
    except (OSError, ValueError):
        return False
    return True
