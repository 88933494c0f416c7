"""The description of the API (OpenAPI 3.1), from the table of routes; scripts/docs writes it to static/openapi.json."""

import inspect
import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from msgspec import Struct

from lmx import __version__
from lmx.http.components import Schemas
from lmx.http.errors import FAILURES, FRAMEWORK, REFUSALS
from lmx.http.keys import Role, needed
from lmx.http.routes import ROUTES, RUNS, Route
from lmx.http.terms import KEY, LONGEST_KEY, TIMEOUT

ABOUT = (
    "What OpenAI's clients, and Anthropic's, send to a server of their own. A field that cannot be honoured is refused"
    " by name, never ignored; null is the same as a field that is not given. Errors are in one envelope."
    " Where the server has no keys, none is asked for."
)
ALWAYS = (400, 403, 413, 421, 500, 503)
WITH_A_BODY = (408, 415)
SCHEMES: Mapping[Role, Mapping[str, Any]] = {
    Role.INFERENCE: {
        "key": {"type": "http", "scheme": "bearer", "description": "An inference key."},
        "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "An inference key."},
    },
    Role.ADMIN: {
        "admin": {"type": "http", "scheme": "bearer", "description": "The admin key."},
        "admin-x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The admin key."},
    },
}
PLACES: Mapping[str, str] = {
    "id": "A name; it may contain slashes.",
    "actor": "An actor's name, as /admin/machines lists it.",
    "alias": "An alias; it may contain slashes.",
    "what": "What is to be broken.",
}
TERMS: tuple[Mapping[str, Any], ...] = (
    {
        "name": TIMEOUT,
        "in": "header",
        "description": "Seconds until the last token, at most `admission.request_seconds`; then the request ends.",
        "schema": {"type": "number", "minimum": 1},
    },
    {
        "name": KEY,
        "in": "header",
        "description": "Sent again as a retry, a request takes the place of the one before.",
        "schema": {"type": "string", "maxLength": LONGEST_KEY},
    },
)
ID = {name: {"$ref": f"#/components/headers/{name}"} for name in ("x-request-id", "x-lmx-model")}
AGAIN = {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}
HEADERS: Mapping[str, Any] = {
    "x-request-id": {"description": "In the log too.", "required": True, "schema": {"type": "string"}},
    "x-lmx-model": {"description": "Which model served it, where that was known.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds.", "schema": {"type": "string", "pattern": "^[0-9]+$"}},
}


def document(routes: tuple[Route, ...] = ROUTES) -> dict[str, Any]:
    """As JSON has it."""
    forms = _Forms(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(path_of(route), {})[route.method.lower()] = _operation(route, forms)
    errors = {(route.error, status) for route in routes for status in statuses(route)}
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "lmx", "version": __version__, "description": ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(forms.components.items())),
            "responses": {_failure(*error): _error(*error, forms) for error in sorted(errors, key=str)},
            "headers": HEADERS,
            "securitySchemes": {name: scheme for schemes in SCHEMES.values() for name, scheme in schemes.items()},
        },
    }
    return _renamed(described)


def path_of(route: Route) -> str:
    """Its path without the patterns of aiohttp."""
    return re.sub(r"\{(\w+):[^}]*\}", r"{\1}", route.path)


def statuses(route: Route) -> list[int]:
    """Of the errors that it may answer with."""
    guarded = (401,) if needed(route.path) else ()
    return sorted({*ALWAYS, *guarded, *route.fails, *(WITH_A_BODY if route.asks else ())} - set(route.otherwise))


class _Forms:
    """The schema of each type that a route names."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        asked = list(dict.fromkeys(route.asks for route in routes if route.asks))
        told = list(dict.fromkeys(kind for route in routes for kind in _told(route)))
        schemas = Schemas(asked, told)
        self._of = dict(zip([*asked, *told], schemas.of, strict=True))
        self.components = schemas.components

    def __getitem__(self, kind: Any) -> dict[str, Any]:
        return self._of[kind]


def _told(route: Route) -> Iterator[Any]:
    yield from (kind for kind in (route.gives, route.streams, route.error) if kind is not None)
    yield from route.otherwise.values()


def _operation(route: Route, forms: _Forms) -> dict[str, Any]:
    text = inspect.getdoc(route.handler) or ""
    operation: dict[str, Any] = {
        "operationId": "_".join([route.method.lower(), *re.findall(r"\w+", path_of(route))]),
        "tags": [route.tag],
        "summary": text.split(". ")[0].split("\n")[0].removesuffix("."),
        "description": " ".join(text.split()),
        "security": [{name: []} for role in sorted(needed(route.path), key=str) for name in SCHEMES[role]],
        "responses": _responses(route, forms),
    }
    if parameters := list(_parameters(route)):
        operation["parameters"] = parameters
    if route.asks:
        content = {"application/json": {"schema": forms[route.asks], "example": route.example}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _parameters(route: Route) -> Iterator[Mapping[str, Any]]:
    for name in re.findall(r"\{(\w+)\}", path_of(route)):
        schema = {"type": "string", "minLength": 1}
        yield {"name": name, "in": "path", "required": True, "description": PLACES[name], "schema": schema}
    if route.query is not None:
        (found,) = Schemas([route.query], []).components.values()
        for name, schema in found["properties"].items():
            yield {"name": name, "in": "query", "schema": schema}
    if set(RUNS) <= set(route.fails):
        yield from TERMS


def _responses(route: Route, forms: _Forms) -> dict[str, Any]:
    responses = {"200": {"description": "OK", "headers": ID, "content": _content(route, forms)}}
    for status, kind in route.otherwise.items():
        either = {"anyOf": [forms[kind], forms[route.error]]}
        content = {"application/json": {"schema": either}}
        responses[str(status)] = {"description": _reasons(status), "headers": ID | AGAIN, "content": content}
    for status in statuses(route):
        responses[str(status)] = {"$ref": f"#/components/responses/{_failure(route.error, status)}"}
    return dict(sorted(responses.items()))


def _content(route: Route, forms: _Forms) -> dict[str, Any]:
    content: dict[str, Any] = {kind: {"schema": {"type": "string"}} for kind in route.texts}
    if route.gives is not None:
        content["application/json"] = {"schema": forms[route.gives]}
    if route.streams is not None:
        events = {"schema": {"type": "string"}, "x-event-schema": {"anyOf": [forms[route.streams], forms[route.error]]}}
        content["text/event-stream"] = events
    return content


def _failure(error: type[Struct], status: int) -> str:
    module = error.__module__.removeprefix("lmx.http.").partition(".")[0]
    return f"{module.title()}{status}"


def _error(error: type[Struct], status: int, forms: _Forms) -> dict[str, Any]:
    headers = ID | AGAIN if status in (429, 503) else ID
    return {
        "description": _reasons(status),
        "headers": headers,
        "content": {"application/json": {"schema": forms[error]}},
    }


def _reasons(status: int) -> str:
    codes = [kind.value for kind, answer in (*REFUSALS.items(), *FAILURES.items()) if answer.status == status]
    codes += [FRAMEWORK[status][0]] if status in FRAMEWORK else []
    phrase = HTTPStatus(status).phrase
    return f"{phrase}: {', '.join(f'`{code}`' for code in codes)}" if codes else phrase


def _renamed(described: dict[str, Any]) -> dict[str, Any]:
    """Where two classes have one name, msgspec calls them `lmx.http.embeddings.Usage`; we, `EmbeddingsUsage`."""
    text = msgspec.json.encode(described).decode()
    for name in described["components"]["schemas"]:
        path, _, short = name.rpartition(".")
        if path:
            module = path.removeprefix("lmx.").removeprefix("http.").title().replace(".", "").replace("_", "")
            text = text.replace(f'{name}"', f'{module}{short}"')
    renamed: dict[str, Any] = msgspec.json.decode(text)
    return renamed


def encoded() -> bytes:
    """The file, line by line: so that what changes can be read."""
    return msgspec.json.format(msgspec.json.encode(document()), indent=1) + b"\n"
