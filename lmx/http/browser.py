"""What browsers are kept from: names that were pointed at us (DNS rebinding), and the pages of other sites."""

from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from msgspec import Struct

from lmx.http.errors import ApiError, shown

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
WILDCARDS = frozenset({"0.0.0.0", "::"})
SECURITY: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
ALLOWED: Mapping[str, str] = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, DELETE",
    "Access-Control-Max-Age": "600",
}
EXPOSED = "x-request-id, request-id, x-lmx-model, Retry-After, x-should-retry"


class Neighbours(Struct, frozen=True, kw_only=True):
    """Who is known to a browser: our own names, and the origins whose pages may use us."""

    address: str | None = None
    """The address that is listened on; None = names are not checked."""
    hosts: frozenset[str] = frozenset()
    """Names besides loopback and `address`, in small letters."""
    origins: frozenset[str] = frozenset()
    """`https://chat.example`, as browsers spell them."""

    def check(self, request: web.Request) -> None:
        """Raises ApiError: 421 for a name that is not ours, 403 for a page that may not change anything here."""
        # A request line with a whole URL names a host too, and that one counts.
        whole = None if request.raw_path.startswith(("/", "*")) else request.host
        for host in (request.headers.get(hdrs.HOST), whole):
            if host is not None and not self._is_ours(host):
                text = f"This server is not called '{shown(host)}': server.hosts lists the names that it answers to."
                raise ApiError(421, text, "host_not_allowed")
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and request.method not in SAFE and not self._may_write(origin, request.host):
            text = f"Pages of '{shown(origin)}' may not do this: server.cors_origins lists those that may."
            raise ApiError(403, text, "origin_not_allowed")

    def allow(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Let the page of a listed origin read the answer."""
        if not self.origins:
            return
        response.headers.add(hdrs.VARY, "Origin")
        if (origin := request.headers.get(hdrs.ORIGIN)) in self.origins and origin is not None:
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = EXPOSED

    def preflight(self, request: web.Request) -> web.Response | None:
        """The answer to a browser that asks first; it allows nothing to others than listed origins."""
        if request.method != "OPTIONS" or hdrs.ACCESS_CONTROL_REQUEST_METHOD not in request.headers:
            return None
        answer = web.Response(status=204)
        if request.headers.get(hdrs.ORIGIN) in self.origins:
            answer.headers.update(ALLOWED)
            wanted = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, "")
            answer.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = wanted
        return answer

    def _is_ours(self, host: str) -> bool:
        if self.address is None:
            return True
        name = _name(host)
        if name in self.hosts or name in ("localhost", self.address.lower()):
            return True
        try:
            ip = ip_address(name)
        except ValueError:
            return False
        # No name that was pointed at us is an address, so any of them is good where we listen on all.
        return ip.is_loopback or self.address in WILDCARDS

    def _may_write(self, origin: str, host: str) -> bool:
        return origin in self.origins or origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower())


def _name(host: str) -> str:
    """The name in a Host header; empty when there is none."""
    try:
        parts = urlsplit(f"//{host}")
        name = parts.hostname if parts.netloc == host and "@" not in host else None
    except ValueError:
        return ""
    return (name or "").removesuffix(".")
