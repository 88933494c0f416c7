"""Bad inputs and good ones, many at a time: nobody pays for anybody else's."""

import asyncio
from pathlib import Path

import pytest

from tests.chaos import mixed
from tests.support.server import Server


@pytest.mark.slow
def test_b99_all_that_is_valid_is_answered(tmp_path: Path) -> None:
    """B99, with 1,000 requests: each gets the answer that is its due, no 500, no worker dies, memory stays.

    `python -m tests.chaos.promises mixed_inputs` sends 10,000.
    """
    server = Server(tmp_path, mixed.CONFIG).ready()
    outcome = asyncio.run(mixed.run(server, 1000))
    assert outcome.wrong == []
    assert outcome.deaths == 0
    assert 200 < outcome.valid == outcome.statuses[200]
    assert sum(outcome.statuses.values()) == 1000
    assert max(outcome.statuses) <= 505
    assert 500 not in outcome.statuses
    assert abs(outcome.grown) < 16 * mixed.MEBIBYTE
    assert server.stop() == 0
