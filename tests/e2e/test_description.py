"""/openapi.json against a real server: its examples work, and random requests get only what it describes."""

from collections.abc import Iterator

import pytest
import requests

from lmx.http.openapi import path_of
from lmx.http.routes import ROUTES, Route
from tests import fuzz
from tests.support.server import Server

CASES = 400
GENERATIVE = [route for route in ROUTES if route.asks and not route.path.startswith("/admin/")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = fuzz.serve(tmp_path_factory.mktemp("described"))
    yield started
    assert started.stop() == 0


@pytest.mark.parametrize("route", GENERATIVE, ids=lambda route: route.path)
def test_an_example_works(server: Server, route: Route) -> None:
    """As it is written, with the embedded model, or with one that ranks."""
    answer = requests.post(
        server.url + path_of(route), json=route.example, headers=fuzz.key_of(route.path), timeout=100
    )
    assert answer.status_code == 200, answer.text


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_nothing_is_answered_that_is_not_described(server: Server) -> None:
    """Random requests, valid and not: no server error but 503, 504 and 429 as described, no other shape or type."""
    report = fuzz.fuzz(server.url, CASES, 1)
    assert not report.faults, "\n".join(report.lines())
    assert report.cases >= CASES
    assert server.process.poll() is None
