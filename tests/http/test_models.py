"""GET /v1/models: what is known of each, in OpenAI's shape and with more beside it."""

from typing import Any

import msgspec
from openai.types import Model

from lmx.actors.messages.journal import Board
from lmx.http.presets import Preset
from tests.http.conftest import Serve, Served
from tests.http.test_openai_schema import validate
from tests.support.dummies import view
from tests.support.inbox import Inbox

LOADED: dict[str, Any] = {
    "context": 2048,
    "makes": "text",
    "chat": True,
    "tools": True,
    "thinking": False,
    "vision": False,
}


async def test_the_client_lists_models_with_any_id(served: Served) -> None:
    """OpenAI's fields are there for the openai client, and an id may contain slashes."""
    listed = [model async for model in served.openai.models.list()]
    assert [model.id for model in listed] == ["m", "org/n"]
    one: Model = await served.openai.models.retrieve("org/n")
    assert (one.id, one.object, one.owned_by) == ("org/n", "model", "lmx")
    assert isinstance(one.created, int)
    _, _, told = await served.get("/v1/models")
    validate(told, "ListModelsResponse")


async def test_a_loaded_model_tells_context_and_capabilities(served: Served) -> None:
    """The context under both of its names; what the model can, and what it cannot."""
    served.journal.board = Board((view("model:m", "ready", **LOADED), view("model:org/n", "unloaded")), ())
    _, _, model = await served.get("/v1/models/m")
    assert (model["context_length"], model["max_model_len"], model["state"]) == (2048, 2048, "ready")
    can = {name for name, able in model["capabilities"].items() if able}
    assert can == {"chat", "completions", "tools", "structured_output"}
    assert None not in model["capabilities"].values()


async def test_a_quarantine_of_before_the_start_tells_its_reason(served: Served) -> None:
    """The machine itself knows only that it started; an admin and a client are told what is wrong with the model."""
    barred = view("model:m", "quarantined", quarantine="The canary lied.")
    served.journal.board = Board((barred, view("model:org/n", "unloaded", quarantine="Over.")), ())
    for path, models in (("/v1/models", "data"), ("/admin/models", "models")):
        told = (await served.get(path))[2][models]
        assert [model["reason"] for model in told] == ["The canary lied.", "because"]


async def test_what_is_not_known_yet_is_null(served: Served) -> None:
    """A model that was never loaded claims nothing."""
    _, _, model = await served.get("/v1/models/org/n")
    assert model["context_length"] is None
    assert set(model["capabilities"].values()) == {None}


async def test_an_embedding_model_claims_no_chat(served: Served) -> None:
    """It embeds, or ranks, and nothing else."""
    served.journal.board = Board(
        (view("model:m", "ready", context=512, makes="embeddings", chat=True, tools=True),), ()
    )
    _, _, model = await served.get("/v1/models/m")
    assert {name for name, able in model["capabilities"].items() if able} == {"embeddings"}


async def test_aliases_and_presets_show_what_they_stand_for(serve: Serve) -> None:
    """An alias its model and who is asked after it, a preset its defaults; both the state of what runs them."""
    preset = Preset(model="best", base="best", defaults={"temperature": 0.2}, system="You write code.")
    served = await serve(
        aliases={"best": Inbox()}, fallbacks={"best": ("m", "org/n")}, presets={"preset:coder": preset}
    )
    served.journal.board = Board(
        (view("model:m", "ready", **LOADED), view("alias:best", "steady", "Swap", means="m")), ()
    )
    _, _, alias = await served.get("/v1/models/best")
    assert (alias["state"], alias["alias"]) == ("ready", {"model": "m", "fallbacks": ["org/n"]})
    _, _, coder = await served.get("/v1/models/preset:coder")
    assert (coder["state"], coder["context_length"]) == ("ready", 2048)
    assert coder["preset"] == {
        "model": "best", "own_worker": False, "defaults": {"temperature": 0.2}, "system": True, "thinking": False,
    }  # fmt: skip
    assert "You write code." not in msgspec.json.encode(coder).decode()
    listed = [model.id async for model in served.openai.models.list()]
    assert listed == ["m", "org/n", "best", "preset:coder"]


async def test_a_preset_with_a_worker_of_its_own_is_listed_once(serve: Serve) -> None:
    """It is a model, and shows its own state."""
    served = await serve(models=("m", "preset:long"), presets={"preset:long": Preset(model="preset:long", base="m")})
    served.journal.board = Board((view("model:m", "ready"), view("model:preset:long", "unloaded")), ())
    _, _, listed = await served.get("/v1/models")
    assert [(model["id"], model["state"]) for model in listed["data"]] == [("m", "ready"), ("preset:long", "unloaded")]
    assert listed["data"][1]["preset"]["own_worker"] is True


async def test_without_the_journal_the_names_are_still_told(serve: Serve) -> None:
    """A list of models is worth having without their states."""
    served = await serve(board_seconds=0.1)
    served.journal.board = None
    status, _, listed = await served.get("/v1/models")
    assert (status, [model["state"] for model in listed["data"]]) == (200, ["unknown", "unknown"])
