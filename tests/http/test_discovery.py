"""What a program that knows only the address is told: GET /v1/discovery and /.well-known/lmx."""

import json

from lmx.http.keys import KeyRing
from tests.http.conftest import Serve, Served


async def test_a_program_finds_its_way(served: Served) -> None:
    """Name, version, APIs with their base URLs, routes, limits, links; every link and path is a route."""
    status, _, told = await served.get("/v1/discovery")
    assert (status, told["name"]) == (200, "lmx")
    assert told["version"]
    root = f"http://127.0.0.1:{served.port}"
    assert told["base_url"] == root
    bases = {api["name"]: api["base_url"] for api in told["apis"]}
    assert bases["openai"] == f"{root}/v1"
    paths = {(route["method"], route["path"]) for route in told["routes"]}
    assert ("POST", "/v1/chat/completions") in paths
    for link in (*told["links"].values(), *told["health"].values()):
        assert ("GET", link) in paths
        status, _, _ = await served.get(link)
        assert status in (200, 503), link
    assert told["limits"]["max_body_bytes"] == served.gateway.max_body_bytes


async def test_models_are_told_with_what_they_can(served: Served) -> None:
    """Their ids, states and capabilities, as /v1/models has them."""
    _, _, told = await served.get("/v1/discovery")
    _, _, listed = await served.get("/v1/models")
    assert [model["id"] for model in told["models"]] == [model["id"] for model in listed["data"]]
    assert told["models"][0]["context_length"] == 4096
    assert set(told["models"][0]["capabilities"]) >= {"chat", "tools", "vision"}


async def test_the_well_known_address_says_the_same_without_keys(served: Served) -> None:
    """Where no key is asked for there is nothing to hide."""
    _, _, known = await served.get("/.well-known/lmx")
    _, _, told = await served.get("/v1/discovery")
    assert known == told
    assert known["auth"] == {"required": False, "admin_required": False, "schemes": told["auth"]["schemes"]}


async def test_without_a_key_the_well_known_address_names_no_model(serve: Serve) -> None:
    """It is open, says that a key is needed, and shows neither models nor keys; the other address needs a key."""
    served = await serve(keys=KeyRing(("sk-secret-of-somebody",), "sk-secret-of-the-admin"), default_model="m")
    status, _, known = await served.get("/.well-known/lmx")
    assert status == 200
    assert known["auth"]["required"] is True
    assert "models" not in known
    assert "default_model" not in known
    assert "sk-" not in json.dumps(known)
    status, _, _ = await served.get("/v1/discovery")
    assert status == 401
    async with served.http.get("/v1/discovery", headers={"x-api-key": "sk-secret-of-somebody"}) as reply:
        told = await reply.json()
    assert [model["id"] for model in told["models"]] == ["m", "org/n"]
    assert "sk-" not in json.dumps(told)
