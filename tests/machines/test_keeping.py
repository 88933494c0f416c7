"""How long an idle model stays, and when its worker is replaced."""

import pytest

from lmx.machines.keeping import Footprint, drift, stays

GB = 10**9


@pytest.mark.parametrize(
    ("configured", "asked", "pinned", "seconds"),
    [
        (0.0, None, False, None),
        (300.0, None, False, 300.0),
        (300.0, 0.0, False, 0.0),
        (300.0, 10.0, False, 10.0),
        (300.0, -1.0, False, None),
        (0.0, 10.0, False, 10.0),
        (300.0, 10.0, True, None),
        (300.0, None, True, None),
    ],
)
def test_a_request_s_wish_goes_before_the_setting(
    configured: float, asked: float | None, pinned: bool, seconds: float | None
) -> None:
    """0 is for ever in the settings and not at all in a request; nobody's wish unloads a pinned model."""
    assert stays(configured=configured, asked=asked, pinned=pinned) == seconds


FIRST = Footprint(nbytes=GB, handles=20, threads=10)


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (FIRST, ""),
        (Footprint(1_700_000_000, 84, 42), ""),
        (Footprint(1_700_000_001, 20, 10), "from 1.00 GB to 1.70 GB"),
        (Footprint(GB, 85, 10), "open files grew from 20 to 85"),
        (Footprint(GB, 20, 43), "threads grew from 10 to 43"),
        (Footprint(GB // 2, 0, 1), ""),
    ],
)
def test_a_worker_that_drifts_is_named_with_its_figures(now: Footprint, says: str) -> None:
    """Half as much again and 200 MB, 64 files or 32 threads more than after its first minute."""
    text = drift(first=FIRST, now=now)
    assert says in text
    assert bool(says) == bool(text)
