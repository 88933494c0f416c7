"""POST /admin/models/{id}/adapters: what reaches the model, and what is refused before."""

from pathlib import Path
from typing import Any

import pytest

from lmx.actors.messages import admission, caller
from lmx.machines.types import Adapter, Refusal, RefusalKind
from tests.http.conftest import Served

PATH = "/admin/models/org/n/adapters"


async def test_adapters_reach_the_model(served: Served, tmp_path: Path) -> None:
    """Files and folders with their scales, in their order; 200 with the state once it is settled."""
    file = tmp_path / "a.gguf"
    file.touch()
    body = {"adapters": [{"path": str(file), "scale": 0.5}, {"path": str(tmp_path)}]}
    status, _, reply = await served.post(PATH, body)
    assert (status, reply) == (200, {"model": "org/n", "state": "ready"})
    [told] = served.admission.messages
    assert isinstance(told, admission.AdaptModel)
    assert (told.model, told.adapters) == ("org/n", (Adapter(str(file), 0.5), Adapter(str(tmp_path), 1.0)))


async def test_no_adapters_are_a_wish_too(served: Served) -> None:
    """[] takes them away; a model that stays unloaded says so."""
    served.admission.reply = lambda model: caller.Settled(model, "unloaded")
    status, _, reply = await served.post(PATH, {"adapters": []})
    assert (status, reply["state"]) == (200, "unloaded")
    [told] = served.admission.messages
    assert isinstance(told, admission.AdaptModel)
    assert told.adapters == ()


async def test_a_bad_adapter_is_told_by_the_load(served: Served) -> None:
    """503 with the loader's sentence, which a client need not send again."""
    refusal = Refusal(RefusalKind.MODEL_LOAD_FAILED, "a.gguf is no adapter for m.gguf.", 30.0)
    served.admission.reply = lambda model: caller.Refused(model, refusal)
    status, _, reply = await served.post(PATH, {"adapters": []})
    assert (status, reply["error"]["code"]) == (503, "model_load_failed")
    assert reply["error"]["message"] == refusal.message


BAD: list[tuple[Any, str, str | None]] = [
    ([], "invalid_type", None),
    ({}, "missing_required_parameter", "adapters"),
    ({"adapters": None}, "invalid_type", "adapters"),
    ({"adapters": {}}, "invalid_type", "adapters"),
    ({"adapters": ["/a"]}, "invalid_type", "adapters[0]"),
    ({"adapters": [{}]}, "missing_required_parameter", "adapters[0].path"),
    ({"adapters": [{"path": 5}]}, "invalid_type", "adapters[0].path"),
    ({"adapters": [{"path": ""}]}, "empty_string", "adapters[0].path"),
    ({"adapters": [{"path": "/", "scale": "1"}]}, "invalid_type", "adapters[0].scale"),
    ({"adapters": [{"path": "/", "scale": True}]}, "invalid_type", "adapters[0].scale"),
    ({"adapters": [{"path": "/", "scale": 1e30}]}, "decimal_above_max_value", "adapters[0].scale"),
    ({"adapters": [{"path": "/", "rank": 8}]}, "unknown_parameter", "adapters[0].rank"),
    ({"adapters": [], "model": "m"}, "unknown_parameter", "model"),
    ({"adapters": [{"path": "/"}] * 17}, "array_above_max_length", "adapters"),
    ({"adapters": [{"path": "/"}, {"path": "tests"}]}, "invalid_value", "adapters[1].path"),
    ({"adapters": [{"path": "/"}, {"path": "/no/such/file"}]}, "file_not_found", "adapters[1].path"),
    ({"adapters": [{"path": "/a\0b"}]}, "file_not_found", "adapters[0].path"),
    ({"adapters": [{"path": "/" + "x" * 5000}]}, "file_not_found", "adapters[0].path"),
]


@pytest.mark.parametrize(("body", "code", "param"), BAD)
async def test_what_is_wrong_is_named_and_reaches_nobody(
    served: Served, body: Any, code: str, param: str | None
) -> None:
    """400 in OpenAI's envelope; nothing long is echoed."""
    status, _, reply = await served.post(PATH, body)
    assert (status, reply["error"]["code"]) == (400, code)
    assert reply["error"]["param"] == param
    assert len(reply["error"]["message"]) < 300
    assert served.admission.messages == []


async def test_it_is_an_admins_route(served: Served) -> None:
    """An unknown model is 404, another page's origin 403, whatever the body."""
    assert (await served.post("/admin/models/nope/adapters", []))[0] == 404
    assert (await served.post(PATH, {"adapters": []}, headers={"Origin": "http://evil.com"}))[0] == 403
    assert served.admission.messages == []
