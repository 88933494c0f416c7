"""Choosing goes on where another worker stopped, in numpy and on the device."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from lmx.backends.base import SeqSpec
from lmx.backends.sampling import Logits
from lmx.machines.types import Sampling
from tests.support.sampling import Drive, ListedMask, on_mlx, on_numpy

VOCAB, COUNT = 40, 12
STOP = frozenset({7})
BOTH = [on_numpy]
if importlib.util.find_spec("mlx"):
    BOTH.append(on_mlx)

SETTINGS = {
    "greedy": Sampling(temperature=0),
    "seeded": Sampling(temperature=1.3, seed=4),
    "excluding": Sampling(temperature=1.0, seed=4, xtc_probability=0.5, xtc_threshold=0.05),
    "repetition": Sampling(temperature=0, repetition_penalty=3.0),
    "presence": Sampling(temperature=0, presence_penalty=4.0),
    "frequency": Sampling(temperature=0, frequency_penalty=1.5),
    "dry": Sampling(temperature=0, dry_multiplier=5.0, dry_allowed_length=1),
    "all of it": Sampling(seed=1, presence_penalty=1, frequency_penalty=0.5, dry_multiplier=1.0, top_p=0.9),
}


def rows() -> list[Logits]:
    """Few tokens are likely, so that settings that see what was said change it."""
    logits = np.random.default_rng(3).normal(0, 1, (COUNT, VOCAB)).astype(np.float32)
    logits[:, 5:10] += 6
    return list(logits)


def resumed(spec: SeqSpec, written: list[int]) -> SeqSpec:
    return replace(spec, prompt=[*spec.prompt, *written], max_tokens=COUNT - len(written), written=len(written))


@pytest.mark.parametrize("drive", BOTH)
@pytest.mark.parametrize("sampling", SETTINGS.values(), ids=SETTINGS.keys())
def test_it_goes_on_as_if_it_had_written_all_itself(drive: Drive, sampling: Sampling) -> None:
    """Whatever remembers, counts or draws does so from the first token of the sequence on, not of this worker."""
    spec = SeqSpec(0, [5, 6, 5, 6], COUNT, sampling)
    whole = drive(spec, rows()).tokens
    for cut in range(1, COUNT):
        assert drive(resumed(spec, whole[:cut]), rows()[cut:]).tokens == whole[cut:]


@pytest.mark.parametrize("drive", BOTH)
def test_min_tokens_counts_from_the_first_token(drive: Drive) -> None:
    """With four of six written, the end is put off for two more."""
    wants_end = [row + 50 * (np.arange(VOCAB) == 7) for row in rows()]
    spec = SeqSpec(0, [1, 2, 3, 4, 5], COUNT, SETTINGS["greedy"], STOP, min_tokens=6, written=4)
    said = drive(spec, wants_end).tokens
    assert 7 not in said[:2]
    assert said[2] == 7
    assert drive(replace(spec, min_tokens=3), wants_end).tokens[0] == 7


@pytest.mark.parametrize("drive", BOTH)
def test_the_mask_is_told_of_new_tokens_only(drive: Drive) -> None:
    """It has the written ones behind it already."""
    mask = ListedMask(VOCAB, {11, 12}, {13})
    said = drive(SeqSpec(0, [1, 13, 13], 3, SETTINGS["greedy"], mask=mask, written=2), rows()[:3]).tokens
    assert said[0] in (11, 12)
    assert said[1:] == [13, 13]
    assert mask.accepted[:2] == said[:2]
