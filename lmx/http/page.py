"""GET / and /static: the chat page, read once and served from memory."""

from pathlib import Path

from aiohttp import web

from lmx.http.errors import of_framework

FOLDER = Path(__file__).parent / "static"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
HEADERS = {
    "Content-Security-Policy": POLICY + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}


class Page:
    def __init__(self) -> None:
        self._files = {path.name: path.read_bytes() for path in FOLDER.iterdir() if path.suffix in TYPES}

    async def index(self, _: web.Request) -> web.Response:
        return self._response("index.html")

    async def file(self, request: web.Request) -> web.Response:
        """Only what was there at the start: names are looked up, never made into a path."""
        name = request.match_info["name"]
        if name not in self._files:
            raise of_framework(404, request)
        return self._response(name)

    def _response(self, name: str) -> web.Response:
        kind = TYPES[Path(name).suffix]
        return web.Response(body=self._files[name], content_type=kind, charset="utf-8", headers=HEADERS)
