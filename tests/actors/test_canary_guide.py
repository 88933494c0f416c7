"""The canary with real weights: the embedded model passes on both backends, and with one byte changed it does not."""

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from lmx.actors.dossier import Dossier
from lmx.actors.messages import caller, model, state
from lmx.guide_record import of
from lmx.machines.canary import Golden
from lmx.machines.types import ModelSpec
from tests.support.guide import SPECS
from tests.support.house import Actors
from tests.support.inbox import Inbox

Start = Any


def load(house: Actors) -> caller.Reply:
    sink: Inbox[caller.Reply] = Inbox()
    house.models["guide"].tell(model.Load(by_admin=True, reply_to=sink))
    return sink.wait_for((caller.Settled, caller.Refused), 60.0)


def sung(house: Actors) -> state.Sang:
    told = house.state.wait_for(state.Sang)
    assert isinstance(told, state.Sang)
    return told


def copied(spec: ModelSpec, folder: Path) -> ModelSpec:
    """The same model in other files."""
    source, target = Path(spec.path), folder / Path(spec.path).name
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)
    return replace(spec, path=str(target))


def spoil(spec: ModelSpec) -> None:
    """Change one byte: the exponent of one of the last norm's weights."""
    path = Path(spec.path)
    if path.is_dir():
        path /= "model.safetensors"
        content = bytearray(path.read_bytes())
        length = struct.unpack_from("<Q", content)[0]
        at = 8 + length + json.loads(content[8 : 8 + length])["model.norm.weight"]["data_offsets"][0] + 1
        content[at] = 0x78  # an F16 of 32768 and more
    else:
        import gguf

        content = bytearray(path.read_bytes())
        tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
        content[int(tensors["output_norm.weight"].data_offset) + 3] = 0x44  # an F32 of 512 and more
    path.write_bytes(content)


@pytest.mark.parametrize("backend", SPECS)
def test_the_guide_sings_what_is_recorded_and_again_what_it_sang(start: Start, backend: str) -> None:
    """By its record, by its own golden answers, alone and in a batch, in JSON, after the load and when idle."""
    spec = SPECS[backend]
    house: Actors = start(spec, record=of(spec))
    assert load(house) == caller.Settled("guide", "ready")
    golden = sung(house)
    record = of(spec)
    assert record is not None
    assert len(golden.golden.answers) == 2
    assert record.token_ids[: len(golden.golden.answers[0])] == golden.golden.answers[0] != ()
    again: Actors = start(spec, record=record, dossier=Dossier(goldens={golden.key: golden.golden}, idle_seconds=0.05))
    assert load(again) == caller.Settled("guide", "ready")
    assert not [told for told in again.state.messages if isinstance(told, state.Sang)]
    seconds = again.view("model:guide").facts["canary_seconds"]
    again.until(lambda: again.view("model:guide").facts["canary_seconds"], lambda now: now != seconds)
    assert again.view("model:guide").state == "ready"


@pytest.mark.parametrize("backend", SPECS)
def test_one_changed_byte_of_the_weights_means_quarantine(start: Start, backend: str, tmp_path: Path) -> None:
    """It is never ready, and the reason names the canary; the same files untouched are as good as the original."""
    spec = copied(SPECS[backend], tmp_path)
    whole: Actors = start(spec, record=of(SPECS[backend]))
    assert load(whole) == caller.Settled("guide", "ready")
    spoil(spec)
    house: Actors = start(spec, record=of(SPECS[backend]))
    refused = load(house)
    assert isinstance(refused, caller.Refused)
    assert "The canary's answer differs from the recorded one" in refused.refusal.message
    assert "ready" not in house.path("model:guide")
    told = house.state.wait_for(state.Quarantined)
    assert isinstance(told, state.Quarantined)
    assert "canary" in told.quarantine.reason


@pytest.mark.parametrize("backend", SPECS)
def test_answers_that_are_not_those_of_before_mean_quarantine(start: Start, backend: str) -> None:
    """Without a record too: what this very model answered on this machine is what it must answer."""
    first: Actors = start(SPECS[backend])
    assert load(first) == caller.Settled("guide", "ready")
    golden = sung(first)
    one, other = golden.golden.answers
    house: Actors = start(SPECS[backend], dossier=Dossier(goldens={golden.key: Golden(answers=(other, one))}))
    refused = load(house)
    assert isinstance(refused, caller.Refused)
    assert "differs at token 1 from what this model has answered before" in refused.refusal.message
