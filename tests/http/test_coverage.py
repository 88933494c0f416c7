"""What docs/api.md says of each field is what the server does."""

import json
from collections.abc import Iterator
from typing import Any

import api_page
import pytest

from lmx.http import coverage
from lmx.http.coverage import Field
from lmx.http.routes import ROUTES, Route
from tests.http.conftest import Served

TOLD = [route for route in ROUTES if route.path in (*api_page.OPENAI, api_page.ANTHROPIC) and route.method == "POST"]
LABELS: dict[str, Any] = {
    "user": "u",
    "metadata": {"user_id": "m"},
    "safety_identifier": "s",
    "prompt_cache_key": "k",
    "store": True,
    "service_tier": "auto",
    "max_tool_calls": 1,
    "cache_control": {"type": "ephemeral"},
    "diagnostics": {},
}
"""A value of each."""


def rows() -> Iterator[tuple[Route, Field]]:
    for route in TOLD:
        yield from ((route, field) for field in coverage.of(route, api_page.theirs(route.path)))


ROWS = list(rows())


def name(row: Any) -> str:
    return str(getattr(row, "path", "") or getattr(row, "name", ""))


async def answer(served: Served, route: Route, **fields: Any) -> tuple[int, Any]:
    status, _, body = await served.post(route.path, dict(route.example) | {"model": "m"} | fields)
    return status, body


@pytest.mark.parametrize(("route", "field"), [row for row in ROWS if row[1].fate == "refused"], ids=name)
async def test_a_refused_field_is_refused_by_its_name(served: Served, route: Route, field: Field) -> None:
    """As one that is known but not there, whatever it says; OpenAI's with the code `unsupported_parameter`."""
    status, body = await answer(served, route, **{field.name: "x"})
    assert status == 400
    if route.path == api_page.ANTHROPIC:
        assert body["error"]["message"].startswith(f"{field.name}: ")
    else:
        assert (body["error"]["code"], body["error"]["param"]) == ("unsupported_parameter", field.name)


@pytest.mark.parametrize(("route", "field"), [row for row in ROWS if row[1].fate == "label"], ids=name)
async def test_a_label_changes_nothing(served: Served, route: Route, field: Field) -> None:
    """The model is asked for the same with it and without it."""
    await answer(served, route)
    await answer(served, route, **{field.name: LABELS[field.name]})
    plain, labelled = served.admission.submits()
    assert labelled.generation == plain.generation


@pytest.mark.parametrize(("route", "field"), [row for row in ROWS if row[1].fate == "one value"], ids=name)
async def test_the_one_value_is_taken(served: Served, route: Route, field: Field) -> None:
    """The field is there; what else it may say is refused, by its name."""
    assert field.name in getattr(route.asks, "__struct_fields__", ())
    only = json.loads(field.meaning.strip("`"))
    assert (await answer(served, route, **{field.name: only}))[0] == 200
    other = {"modalities": ["audio"], "verbosity": "low", "prompt_cache_retention": "24h", "best_of": 2}[field.name]
    status, body = await answer(served, route, **{field.name: other})
    assert (status, body["error"]["param"]) == (400, field.name)


@pytest.mark.parametrize("route", TOLD, ids=name)
async def test_a_field_that_nobody_knows_is_refused(served: Served, route: Route) -> None:
    """It is named too."""
    status, body = await answer(served, route, surely_not_there=1)
    assert status == 400
    assert "surely_not_there" in body["error"]["message"]


def test_every_original_is_told() -> None:
    """Four schemas of OpenAI and Anthropic's messages have a table."""
    assert {route.path for route in TOLD} == {*api_page.OPENAI, api_page.ANTHROPIC}
    assert {"temperature", "tools", "stream"} <= {field.name for _, field in ROWS if field.fate == "honoured"}


def test_every_field_of_our_own_says_what_it_means() -> None:
    """Nobody else's documentation does."""
    known = set().union(*map(api_page.theirs, api_page.OPENAI))
    assert {field.name for _, field in ROWS if not field.meaning} <= known | api_page.theirs(api_page.ANTHROPIC)
