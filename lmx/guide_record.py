"""The recorded greedy answer of the embedded model: what its canary must sing."""

from pathlib import Path

import msgspec

from lmx.machines.canary import Record
from lmx.machines.types import ModelSpec

FOLDER = Path(__file__).parent / "guide"


def of(spec: ModelSpec) -> Record | None:
    """The record of a model that has one: lmx-guide, in either of its two forms."""
    if not Path(spec.path).is_relative_to(FOLDER):
        return None
    return msgspec.json.decode((FOLDER / "canary.json").read_bytes(), type=Record)
