"""Actors in their house."""

from collections.abc import Callable, Iterator

import pytest

from tests.support.house import Actors

Start = Callable[..., Actors]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts actors, and stops them at the end; nothing may have escalated unless the test took note of it."""
    houses: list[Actors] = []

    def begin(*specs: object, **options: object) -> Actors:
        houses.append(Actors(*specs, **options))  # type: ignore[arg-type]
        return houses[-1]

    yield begin
    for house in houses:
        house.close()
        assert house.escalations == []
