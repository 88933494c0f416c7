"""GET /openapi.json and /docs: what the API is, for programs and for people. Nothing is fetched from elsewhere."""

from functools import cache
from pathlib import Path

import msgspec
from aiohttp import web
from swagger_ui_bundle import swagger_ui_path

from lmx.http import lowering
from lmx.http.errors import of_framework
from lmx.http.page import FOLDER, HEADERS

TYPES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
"""Of the viewer's files, those that are needed."""
POLICY = "Content-Security-Policy"
VIEWERS = HEADERS | {POLICY: HEADERS[POLICY].replace("img-src 'self'", "img-src 'self' data:")}
"""The icons are in its style sheet."""


class Viewer:
    """Everything is read once, and served from memory."""

    def __init__(self) -> None:
        self._described = (FOLDER / "openapi.json").read_bytes()
        self._page = (FOLDER / "docs.html").read_bytes()
        self._files = {name: Path(swagger_ui_path, name).read_bytes() for name in TYPES}
        self._lowered = msgspec.json.encode(lowering.document(msgspec.json.decode(self._described)))

    async def description(self, _: web.Request) -> web.Response:
        return web.Response(body=self._described, content_type="application/json")

    async def index(self, _: web.Request) -> web.Response:
        return web.Response(body=self._page, content_type="text/html", charset="utf-8", headers=VIEWERS)

    async def file(self, request: web.Request) -> web.Response:
        """Only what is listed: names are looked up, never made into a path."""
        name = request.match_info["name"]
        if name == "openapi.json":
            return web.Response(body=self._lowered, content_type="application/json")
        if name not in self._files:
            raise of_framework(404, request)
        return web.Response(body=self._files[name], content_type=TYPES[name], headers=VIEWERS)


@cache
def viewer() -> Viewer:
    """One for all servers of a process: the files do not change."""
    return Viewer()
