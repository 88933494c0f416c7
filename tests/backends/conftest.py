"""Fixtures of the contract tests: every backend in turn, with its tiny model loaded."""

import importlib.util
from collections.abc import Iterator

import pytest

from lmx.backends.registry import open_backend
from tests.support.contract import CASES, Case, Loaded, go_on, model_spec


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    chosen: Case = request.param
    if importlib.util.find_spec(chosen.library) is None:
        pytest.skip(f"{chosen.library} is not installed")
    return chosen


@pytest.fixture(scope="module")
def shared(case: Case) -> Iterator[Loaded]:
    backend = open_backend(case.name)
    info = backend.load(model_spec(case), go_on)
    yield Loaded(case, backend, info)
    backend.close()


@pytest.fixture
def loaded(shared: Loaded) -> Iterator[Loaded]:
    """Every test must leave the backend as empty as it found it."""
    yield shared
    stats = shared.backend.stats()
    assert (stats.running, stats.kv_used) == (0, 0)
    assert shared.backend.free_slots() == shared.info.slots
