"""/openapi.json tells what the routes take and give, and /docs shows it."""

import inspect
import json
import re
from typing import Any

import pytest
from msgspec import Struct
from openapi_spec_validator import validate

from lmx.http import application, components, docstrings, lowering, openapi
from lmx.http.keys import PAGES
from lmx.http.routes import ROUTES, Route
from tests.http.conftest import Serve, Served
from tests.http.test_keys import RING

DESCRIBED = openapi.document()
ANYTHING = {"facts", "data", "effects", "memory", "inputs", "outcome", "parsed", "parsed_arguments"}
"""Fields of the journal and of models that may be any JSON; the openai client's own `parsed…`."""


async def test_it_is_served_as_it_is_checked_in(served: Served) -> None:
    """What programs get is valid OpenAPI 3.1, and what the code says now (`scripts/docs` writes it)."""
    status, headers, body = await served.get("/openapi.json")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert body["openapi"] == "3.1.0"
    validate(body)
    assert body == json.loads(openapi.encoded())


async def test_every_route_is_described(served: Served) -> None:
    """The router has the routes of the table and the pages, and nothing else."""
    routes = application.build(served.gateway).router.routes()
    there = {(route.method, route.resource.canonical) for route in routes if route.resource and route.method != "HEAD"}
    plain = {(route.method, openapi.path_of(route)) for route in ROUTES}
    assert there == plain | {("GET", path) for path in PAGES}
    described = {(method.upper(), path) for path, item in DESCRIBED["paths"].items() for method in item}
    assert described == plain


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_a_route_says_what_it_is_for(route: Route) -> None:
    """Its handler has a docstring; where a body is asked for, there is an example of it."""
    assert inspect.getdoc(route.handler)
    assert bool(route.example) == (route.asks is not None)
    assert route.gives is not None or route.texts


@pytest.mark.parametrize("name", DESCRIBED["components"]["schemas"])
def test_no_field_is_any_json_by_mistake(name: str) -> None:
    """What a Struct leaves open for speed is told in components.EXACT."""
    fields = DESCRIBED["components"]["schemas"][name].get("properties", {})
    loose = {field for field, form in fields.items() if is_anything(form)}
    assert loose <= ANYTHING, f"{name} says nothing of {loose - ANYTHING}"


def is_anything(form: dict[str, Any]) -> bool:
    told = {key: value for key, value in form.items() if key not in ("description", "default")}
    return not told or any(is_anything(one) for one in told.get("anyOf", ()))


def test_a_reply_field_with_a_default_is_always_there() -> None:
    """Clients may rely on it; only what lmx leaves out at times is not required."""
    chunk = DESCRIBED["components"]["schemas"]["ChatCompletion"]
    assert {"id", "object", "usage", "system_fingerprint"} <= set(chunk["required"])
    assert "lmx_cache" not in chunk["required"]
    assert DESCRIBED["components"]["schemas"]["ChatRequest"]["required"] == ["model", "messages"]


def test_unknown_fields_are_refused_and_bounds_are_told() -> None:
    """As the server has them."""
    asked = DESCRIBED["components"]["schemas"]["ChatRequest"]
    assert asked["additionalProperties"] is False
    assert {"type": "number", "minimum": 0, "maximum": 2} in asked["properties"]["temperature"]["anyOf"]
    assert {"type": "null"} in asked["properties"]["temperature"]["anyOf"]


def test_keys_are_told_by_route() -> None:
    """The admin's routes want the admin's key; a probe wants none."""
    paths = DESCRIBED["paths"]
    assert paths["/v1/chat/completions"]["post"]["security"] == [{"key": []}, {"x-api-key": []}]
    assert paths["/admin/models"]["get"]["security"] == [{"admin": []}, {"admin-x-api-key": []}]
    assert paths["/healthz"]["get"]["security"] == []
    assert "401" in paths["/v1/models"]["get"]["responses"]
    assert "401" not in paths["/healthz"]["get"]["responses"]


async def test_the_key_that_is_described_is_asked_for(serve: Serve) -> None:
    """Without one: 401 where there is a security scheme, anything else where there is none."""
    served = await serve(keys=RING)
    for path, item in DESCRIBED["paths"].items():
        for method, operation in item.items():
            async with served.http.request(method, re.sub(r"{\w+}", "x", path)) as reply:
                assert (reply.status == 401) == bool(operation["security"]), (method, path, reply.status)


class Parent(Struct):
    a: int = 0
    """Of the parent."""
    b: int = 0


class Child(Parent):
    c: int = 0
    """Of the child,
    on two lines."""


def test_field_docstrings() -> None:
    """Those of the bases count too; a field without one is left out."""
    assert docstrings.of_fields(Child) == {"a": "Of the parent.", "c": "Of the child, on two lines."}


def test_two_classes_of_one_name_get_names_of_their_own() -> None:
    """And no dots in them."""
    names = DESCRIBED["components"]["schemas"]
    assert {"RepliesUsage", "EmbeddingsUsage"} <= set(names)
    assert not [name for name in names if "." in name]
    assert components.REF + "RepliesUsage" in json.dumps(DESCRIBED)


async def test_the_page_needs_nothing_from_elsewhere(serve: Serve) -> None:
    """/docs and all that it names are served from here, without a key, under a policy that allows nothing else."""
    served = await serve(keys=RING)
    status, headers, page = await served.get("/docs")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    files = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(files) == 4
    found = {name: await served.get("/" + name) for name in files}
    assert {name: status for name, (status, _, _) in found.items()} == dict.fromkeys(files, 200)
    assert "SwaggerUIBundle" in found["docs/swagger-ui-bundle.js"][2]
    assert 'url: "docs/openapi.json"' in found["static/docs.js"][2]
    assert "inline" not in headers["Content-Security-Policy"]


async def test_the_viewer_gets_what_it_can_read(served: Served) -> None:
    """Valid OpenAPI 3.0 with the same operations: the viewer refuses 3.1."""
    status, _, body = await served.get("/docs/openapi.json")
    assert (status, body["openapi"]) == (200, "3.0.3")
    validate(body)
    assert set(body["paths"]) == set(DESCRIBED["paths"])
    assert body["components"]["schemas"]["ChatRequest"]["properties"]["top_p"] == {
        "type": "number", "nullable": True, "default": None, "minimum": 0, "exclusiveMinimum": True, "maximum": 1,
    }  # fmt: skip


def test_lowering_keeps_examples() -> None:
    """A tool's own schema in an example is no schema of ours."""
    example = {"tools": [{"anyOf": [{"type": "null"}], "const": 1}]}
    assert lowering.document({"example": example})["example"] == example


@pytest.mark.parametrize("name", ["index.html", "..%2f..%2fpage.py", "swagger-ui.js", "oauth2-redirect.html"])
async def test_no_other_file_of_the_viewer_is_served(served: Served, name: str) -> None:
    """404 in the envelope."""
    status, _, body = await served.get(f"/docs/{name}")
    assert (status, body["error"]["code"]) == (404, "unknown_url")
