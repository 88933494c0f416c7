"""GET /v1/models as Anthropic's clients see it."""

from typing import Any

import anthropic
import pytest

from lmx.actors.messages.journal import Board
from tests.http.conftest import Serve, Served
from tests.support.dummies import view

VERSION = {"anthropic-version": "2023-06-01"}


def client_of(served: Served) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(api_key="any", base_url=f"http://127.0.0.1:{served.port}", max_retries=0)


async def test_its_client_lists_models(served: Served) -> None:
    """Each with the fields that Anthropic's always have; OpenAI's are there too, and to others nothing else is told."""
    served.journal.board = Board((view("model:m", "ready", context=2048, makes="text"),), ())
    async with client_of(served) as client:
        listed = [model async for model in client.models.list(limit=1)]
        one = await client.models.retrieve("m")
    assert [model.id for model in listed] == ["m", "org/n"]
    assert listed[0] == one
    assert (one.type, one.display_name, one.lifecycle, one.max_input_tokens) == ("model", "m", "active", 2048)
    assert one.created_at.tzinfo is not None
    assert listed[1].max_input_tokens is None
    _, _, told = await served.get("/v1/models")
    assert "has_more" not in told


@pytest.mark.parametrize(
    ("query", "ids", "more"),
    [
        ("", ["m", "org/n"], False),
        ("?limit=1", ["m"], True),
        ("?limit=1&after_id=m", ["org/n"], False),
        ("?limit=1&before_id=org/n", ["m"], False),
        ("?before_id=m", [], False),
    ],
)
async def test_it_comes_in_pages(served: Served, query: str, ids: list[str], more: bool) -> None:
    """As many as are asked for, after or before a model, with the ends that the next page is asked for by."""
    async with served.http.get(f"/v1/models{query}", headers=VERSION) as answer:
        page: Any = await answer.json()
    assert [model["id"] for model in page["data"]] == ids
    assert (page["has_more"], page["first_id"], page["last_id"]) == (
        more,
        ids[0] if ids else None,
        ids[-1] if ids else None,
    )


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "after_id=robot"])
async def test_a_page_that_there_is_not(served: Served, query: str) -> None:
    """The field is named, in Anthropic's envelope."""
    async with served.http.get(f"/v1/models?{query}", headers=VERSION) as answer:
        reply: Any = await answer.json()
    assert answer.status == 400
    assert reply["error"]["message"].startswith(query.partition("=")[0] + ": ")


async def test_its_clients_get_its_errors_everywhere(serve: Serve) -> None:
    """An unknown model, and a route that lmx does not have."""
    served = await serve()
    async with client_of(served) as client:
        for call in (client.models.retrieve("robot"), client.beta.files.retrieve_metadata("f")):
            with pytest.raises(anthropic.NotFoundError) as error:
                await call
            assert error.value.type == "not_found_error"
            assert error.value.request_id
